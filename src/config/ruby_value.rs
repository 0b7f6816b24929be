//! The values of embedded Ruby and the methods and operators that they have. Pure; `ruby` walks the code.

use super::convert;

/// A Ruby value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ruby {
    Nil,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Ruby {
    pub(crate) fn is_true(&self) -> bool {
        !matches!(self, Ruby::Nil | Ruby::Bool(false))
    }

    /// Ruby's `to_s`.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Ruby::Nil => String::new(),
            Ruby::Bool(value) => value.to_string(),
            Ruby::Integer(value) => value.to_string(),
            Ruby::Float(value) => float_text(*value),
            Ruby::Text(text) => text.clone(),
        }
    }

    fn class(&self) -> &'static str {
        match self {
            Ruby::Nil => "nil",
            Ruby::Bool(true) => "true",
            Ruby::Bool(false) => "false",
            Ruby::Integer(_) => "an Integer",
            Ruby::Float(_) => "a Float",
            Ruby::Text(_) => "a String",
        }
    }

    fn as_float(&self) -> Option<f64> {
        match self {
            Ruby::Integer(value) => Some(*value as f64),
            Ruby::Float(value) => Some(*value),
            _ => None,
        }
    }
}

/// A float as Ruby prints it: always with a point, with an exponent from 1e16 up and below 1e-4.
fn float_text(value: f64) -> String {
    let plain = value == 0.0 || (1e-4..1e16).contains(&value.abs());
    let text = if plain || !value.is_finite() {
        value.to_string()
    } else {
        format!("{value:e}")
    };
    match text.split_once('e') {
        Some((number, exponent)) => {
            let number = if number.contains('.') {
                number.to_owned()
            } else {
                format!("{number}.0")
            };
            match exponent.strip_prefix('-') {
                Some(digits) => format!("{number}e-{digits:0>2}"),
                None => format!("{number}e+{exponent:0>2}"),
            }
        }
        None if plain && !text.contains('.') => format!("{text}.0"),
        None => text,
    }
}

/// A method without arguments.
pub(crate) fn unary(value: &Ruby, name: &str) -> Result<Ruby, String> {
    let text = value.to_text();
    match (name, value) {
        ("!", _) => Ok(Ruby::Bool(!value.is_true())),
        ("nil?", _) => Ok(Ruby::Bool(*value == Ruby::Nil)),
        ("to_s", _) => Ok(Ruby::Text(text)),
        ("to_i", Ruby::Nil) => Ok(Ruby::Integer(0)),
        ("to_i", Ruby::Integer(_)) | ("to_f", Ruby::Float(_)) => Ok(value.clone()),
        ("to_i", Ruby::Float(float)) => Ok(Ruby::Integer(*float as i64)),
        ("to_i", Ruby::Text(_)) => {
            let read = convert::integer(text.trim_start()).map_or(0, |read| read.value);
            whole(i64::try_from(read).ok())
        }
        ("to_f", Ruby::Nil) => Ok(Ruby::Float(0.0)),
        ("to_f", Ruby::Integer(integer)) => Ok(Ruby::Float(*integer as f64)),
        ("to_f", Ruby::Text(_)) => Ok(Ruby::Float(
            convert::float(text.trim_start()).map_or(0.0, |read| read.value),
        )),
        ("-@", Ruby::Integer(integer)) => whole(integer.checked_neg()),
        ("-@", Ruby::Float(float)) => Ok(Ruby::Float(-float)),
        ("empty?", Ruby::Text(_)) => Ok(Ruby::Bool(text.is_empty())),
        ("strip", Ruby::Text(_)) => Ok(Ruby::Text(text.trim().to_owned())),
        ("chomp", Ruby::Text(_)) => {
            let ended = text.strip_suffix("\r\n");
            let ended = ended.or_else(|| text.strip_suffix(['\n', '\r']));
            Ok(Ruby::Text(ended.unwrap_or(&text).to_owned()))
        }
        ("downcase", Ruby::Text(_)) => Ok(Ruby::Text(text.to_lowercase())),
        ("upcase", Ruby::Text(_)) => Ok(Ruby::Text(text.to_uppercase())),
        _ => Err(not_there(value, name)),
    }
}

/// An operator.
pub(crate) fn binary(left: &Ruby, name: &str, right: &Ruby) -> Result<Ruby, String> {
    let equal = match (left.as_float(), right.as_float()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    };
    match (name, left, right) {
        ("==", _, _) => Ok(Ruby::Bool(equal)),
        ("!=", _, _) => Ok(Ruby::Bool(!equal)),
        ("+", Ruby::Text(left), Ruby::Text(right)) => Ok(Ruby::Text(format!("{left}{right}"))),
        (_, Ruby::Integer(left), Ruby::Integer(right)) => integers(*left, name, *right),
        _ => match (left.as_float(), right.as_float()) {
            (Some(left), Some(right)) => floats(left, name, right),
            _ => Err(format!("{} with {}", not_there(left, name), right.class())),
        },
    }
}

fn integers(left: i64, name: &str, right: i64) -> Result<Ruby, String> {
    // Ruby rounds a division down, and the remainder has the sign of the divisor.
    let floor =
        |quotient: i64, remainder: i64| match remainder != 0 && (remainder < 0) != (right < 0) {
            true => (quotient - 1, remainder + right),
            false => (quotient, remainder),
        };
    let divided = || Some(floor(left.checked_div(right)?, left.checked_rem(right)?));
    match name {
        "+" => whole(left.checked_add(right)),
        "-" => whole(left.checked_sub(right)),
        "*" => whole(left.checked_mul(right)),
        "/" => whole(divided().map(|(quotient, _)| quotient)),
        "%" => whole(divided().map(|(_, remainder)| remainder)),
        "**" => {
            let power = u32::try_from(right).ok();
            whole(power.and_then(|power| left.checked_pow(power)))
        }
        "<" => Ok(Ruby::Bool(left < right)),
        ">" => Ok(Ruby::Bool(left > right)),
        "<=" => Ok(Ruby::Bool(left <= right)),
        ">=" => Ok(Ruby::Bool(left >= right)),
        _ => Err(not_there(&Ruby::Integer(left), name)),
    }
}

fn floats(left: f64, name: &str, right: f64) -> Result<Ruby, String> {
    match name {
        "+" => Ok(Ruby::Float(left + right)),
        "-" => Ok(Ruby::Float(left - right)),
        "*" => Ok(Ruby::Float(left * right)),
        "/" => Ok(Ruby::Float(left / right)),
        "<" => Ok(Ruby::Bool(left < right)),
        ">" => Ok(Ruby::Bool(left > right)),
        "<=" => Ok(Ruby::Bool(left <= right)),
        ">=" => Ok(Ruby::Bool(left >= right)),
        _ => Err(not_there(&Ruby::Float(left), name)),
    }
}

/// An integer that fits.
pub(crate) fn whole(value: Option<i64>) -> Result<Ruby, String> {
    value
        .map(Ruby::Integer)
        .ok_or_else(|| "the number is too large, or divided by zero".to_owned())
}

fn not_there(value: &Ruby, name: &str) -> String {
    let class = value.class();
    let hint = match value {
        Ruby::Nil => ", which an environment variable is that is not set",
        _ => "",
    };
    format!("'{name}' is not supported on {class}{hint}")
}
