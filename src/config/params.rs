//! A section's parameters to a `Params` struct: a serde deserializer whose every value is a text, converted by `convert`.
//!
//! All wrong values of a section are found in one go: a wrong or missing field is remembered, given a harmless stand-in, and the
//! section is read again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::element::{Element, Param, Value};
use super::{ConfigError, ConfigErrors, Result, convert};

/// Reads the parameters of a section into `T`, or says everything that is wrong with them.
pub(crate) fn read<T: DeserializeOwned>(element: &Element) -> Result<T> {
    let mut errors = ConfigErrors::new();
    let mut stand_ins = BTreeSet::new();
    let warnings = RefCell::default();
    let value = loop {
        let section = Section {
            element,
            stand_ins: &stand_ins,
            warnings: &warnings,
        };
        let (key, error) = match T::deserialize(section) {
            Ok(value) => break Some(value),
            Err(Fault::Missing(key)) => {
                let error = missing(element, &key);
                (Some(key), error)
            }
            Err(Fault::Value(Some(key), message)) => {
                let error = element.error_at(&key, message);
                (Some(key), error)
            }
            Err(Fault::Value(None, message)) => (None, element.error(message)),
        };
        match key {
            Some(key) if stand_ins.insert(key.clone()) => errors.push(error),
            // The stand-in itself is refused: nothing more can be found.
            Some(_) => break None,
            None => {
                errors.push(error);
                break None;
            }
        }
    };
    errors.into_result()?;
    for (key, message) in warnings.into_inner() {
        element.warn_at(&key, message);
    }
    value.ok_or_else(|| element.error("the parameters cannot be read").into())
}

fn missing(element: &Element, key: &str) -> ConfigError {
    match element.param(key).map(|param| &param.value) {
        Some(Value::Default) => {
            element.error_at(key, format!("'{key}' doesn't have default value"))
        }
        _ => element.missing(key),
    }
}

/// Why a section is not a `T`.
#[derive(Debug)]
enum Fault {
    Missing(String),
    /// A wrong value, and of which parameter once that is known.
    Value(Option<String>, String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Missing(key) => write!(f, "'{key}' parameter is required"),
            Fault::Value(_, message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: Display>(message: T) -> Fault {
        Fault::Value(None, message.to_string())
    }

    fn missing_field(field: &'static str) -> Fault {
        Fault::Missing(field.to_owned())
    }
}

/// The section as serde sees it.
#[derive(Clone, Copy)]
struct Section<'a> {
    element: &'a Element,
    stand_ins: &'a BTreeSet<String>,
    /// Numbers that were read although something stands behind them, by parameter: one warning each, however often they are read.
    warnings: &'a RefCell<BTreeMap<String, String>>,
}

impl<'a> Section<'a> {
    fn entries(self, keys: Vec<&'a str>) -> Entries<'a> {
        Entries {
            section: self,
            keys: keys.into_iter(),
            current: None,
        }
    }

    fn stands(&self, key: &str) -> bool {
        self.stand_ins.contains(key) || self.element.has(key)
    }
}

impl<'de> Deserializer<'de> for Section<'_> {
    type Error = Fault;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        for field in fields {
            self.element.know(field);
            if let Some(param) = self.element.param(field) {
                param.mark_used();
            }
        }
        let keys = fields.iter().copied().filter(|key| self.stands(key));
        visitor.visit_map(self.entries(keys.collect()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let params = self.element.all_params().iter();
        let keys = params
            .inspect(|param| param.mark_used())
            .map(|param| param.key.as_str())
            .filter(|key| self.stands(key));
        visitor.visit_map(self.entries(keys.collect()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The parameters that stand in the section, one after the other.
struct Entries<'a> {
    section: Section<'a>,
    keys: std::vec::IntoIter<&'a str>,
    current: Option<&'a str>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.current = self.keys.next();
        let Some(key) = self.current else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Fault> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let key = self.current.unwrap_or_default();
        let element = self.section.element;
        let value = match element.param(key) {
            _ if self.section.stand_ins.contains(key) => Text::StandIn,
            Some(Param {
                value: Value::Text(text),
                ..
            }) => Text::Is(text),
            _ => Text::Nil,
        };
        let warning = RefCell::default();
        let text = TextDeserializer {
            text: value,
            strict: element.is_strict(),
            warning: &warning,
        };
        let result = seed.deserialize(text);
        if let Some(warning) = warning.take() {
            let mut warnings = self.section.warnings.borrow_mut();
            warnings.insert(key.to_owned(), warning);
        }
        result.map_err(|fault| match (fault, value) {
            (_, Text::Nil) => Fault::Value(
                Some(key.to_owned()),
                format!("'{key}' parameter is required but nil is specified"),
            ),
            (Fault::Value(None, message), _) => Fault::Value(Some(key.to_owned()), message),
            (fault, _) => fault,
        })
    }
}

/// What a field is made from.
#[derive(Clone, Copy)]
enum Text<'a> {
    Is(&'a str),
    Nil,
    /// Some value of whatever type is asked for: the field is wrong or missing, and the others shall still be looked at.
    StandIn,
}

/// One parameter, or one item of a list or hash, as serde sees it.
#[derive(Clone, Copy)]
struct TextDeserializer<'a> {
    text: Text<'a>,
    strict: bool,
    /// Why the value was read although it is not clean.
    warning: &'a RefCell<Option<String>>,
}

impl<'a> TextDeserializer<'a> {
    fn item<'b>(self, text: Option<&'b str>) -> TextDeserializer<'b>
    where
        'a: 'b,
    {
        TextDeserializer {
            text: text.map_or(Text::Nil, Text::Is),
            ..self
        }
    }

    fn convert<T>(
        self,
        stand_in: T,
        convert: impl Fn(&str) -> convert::Converted<T>,
    ) -> Result<T, Fault> {
        match self.text {
            Text::Is(text) => convert(text).map_err(Fault::custom),
            Text::Nil => Err(Fault::custom("a value is missing")),
            Text::StandIn => Ok(stand_in),
        }
    }

    /// A number; with something behind it a warning, in strict mode an error.
    fn number<T: Copy + Default + Display>(
        self,
        convert: impl Fn(&str) -> convert::Converted<convert::Read<T>>,
    ) -> Result<T, Fault> {
        let read = convert::Read {
            value: T::default(),
            trailing: false,
        };
        let read = self.convert(read, convert)?;
        if read.trailing && self.strict {
            return Err(Fault::custom("not a number (strict_config_value is on)"));
        }
        if read.trailing {
            let message = format!(
                "only the leading number is read, as in Fluentd: {}",
                read.value
            );
            self.warning.replace(Some(message));
        }
        Ok(read.value)
    }

    /// An integer of a type that holds `least` to `most`.
    fn integer<T: TryFrom<i128> + Display>(self, least: T, most: T) -> Result<T, Fault> {
        let number = self.number(convert::integer)?;
        T::try_from(number)
            .map_err(|_| Fault::custom(format!("out of range (allowed are {least} to {most})")))
    }
}

impl<'de> IntoDeserializer<'de, Fault> for TextDeserializer<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for TextDeserializer<'_> {
    type Error = Fault;

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i8(self.integer(i8::MIN, i8::MAX)?)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i16(self.integer(i16::MIN, i16::MAX)?)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i32(self.integer(i32::MIN, i32::MAX)?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i64(self.integer(i64::MIN, i64::MAX)?)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u8(self.integer(u8::MIN, u8::MAX)?)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u16(self.integer(u16::MIN, u16::MAX)?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u32(self.integer(u32::MIN, u32::MAX)?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u64(self.integer(u64::MIN, u64::MAX)?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(self.convert(false, convert::boolean)?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_f64(self.number(convert::float)?)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text {
            Text::Is(text) => visitor.visit_str(text),
            Text::Nil => visitor.visit_unit(),
            // "0" is a number, a time, a size and a text.
            Text::StandIn => visitor.visit_str("0"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text {
            Text::Is(_) => visitor.visit_some(self),
            Text::Nil | Text::StandIn => visitor.visit_none(),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let first = variants.first().copied().unwrap_or_default();
        let variant = self.convert(first, |text| {
            let found = variants.iter().copied().find(|variant| *variant == text);
            found.ok_or_else(|| format!("valid options are {}", variants.join(",")))
        })?;
        let variant: StrDeserializer<'_, Fault> = variant.into_deserializer();
        visitor.visit_enum(variant)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let items = self.convert(Vec::new(), convert::array)?;
        let items = items.iter().map(|item| self.item(item.as_deref()));
        visitor.visit_seq(SeqDeserializer::new(items))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let pairs = self.convert(Vec::new(), convert::hash)?;
        let pairs = pairs
            .iter()
            .map(|(key, value)| (key.as_str(), self.item(value.as_deref())));
        visitor.visit_map(MapDeserializer::new(pairs))
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple_struct struct identifier
        ignored_any
    }
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
