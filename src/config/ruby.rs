//! Embedded Ruby, `"#{…}"`: parsed by Ruby's own parser (prism), evaluated here for the short list of forms that configurations use.
//!
//! Everything else is an error at its place in the file. What a configuration may see of the machine comes through [`World`].

use std::collections::BTreeMap;
use std::ops::Range;

use ruby_prism::{CallNode, Node, NodeList, StatementsNode};

/// The forms that are evaluated, as error messages list them.
pub(crate) const SUPPORTED: &str = "supported are ENV['X'], ENV.fetch('X', 'default'), ||, &&, !, ==, !=, a ? b : c, if/else, strings with \
#{…} and +, numbers and arithmetic, nil?, empty?, to_s, to_i, to_f, strip, chomp, downcase, upcase, hostname, Socket.gethostname, worker_id, \
use_default, use_nil, File.read('path')";

/// Longer code is not looked at.
const MOST_CODE: usize = 2048;
/// How deep expressions may nest.
const DEEPEST: usize = 50;
/// Larger files are not read by `File.read`.
const LARGEST_FILE: u64 = 1 << 20;

/// What embedded Ruby can see.
#[derive(Clone, Debug)]
pub struct World {
    /// The environment; variables that are not UTF-8 do not exist.
    pub env: BTreeMap<String, String>,
    /// `hostname` and `Socket.gethostname`.
    pub hostname: String,
}

impl Default for World {
    /// The world of this process.
    fn default() -> World {
        let env = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        World {
            env,
            hostname: hostname.to_string_lossy().into_owned(),
        }
    }
}

/// What the code of one `#{…}` gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Text(String),
    /// `use_nil`: the whole value is nil.
    Nil,
    /// `use_default`: the whole value is the parameter's default.
    Default,
}

/// An outcome, and whether something of the environment or of a file is in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evaluated {
    pub(crate) outcome: Outcome,
    pub(crate) foreign: bool,
}

/// Code that is not evaluated: where and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) place: Range<usize>,
    pub(crate) message: String,
}

/// The length of the code at the start of `text`: it ends before the first `}` that leaves valid Ruby.
pub(crate) fn code_length(text: &str) -> Option<usize> {
    text.match_indices('}')
        .map(|(at, _)| at)
        .take_while(|at| *at <= MOST_CODE)
        .find(|&at| ruby_prism::parse(&text.as_bytes()[..at]).is_success())
}

/// Evaluates code that [`code_length`] has found.
pub(crate) fn evaluate(code: &str, world: &World) -> Result<Evaluated, Refusal> {
    let parsed = ruby_prism::parse(code.as_bytes());
    let mut evaluator = Evaluator {
        world,
        foreign: false,
        depth: 0,
    };
    let outcome = match evaluator.value(&parsed.node()) {
        Ok(value) => Outcome::Text(value.to_text()),
        Err(Halt::Nil) => Outcome::Nil,
        Err(Halt::Default) => Outcome::Default,
        Err(Halt::Refused(refusal)) => return Err(refusal),
    };
    Ok(Evaluated {
        outcome,
        foreign: evaluator.foreign,
    })
}

#[derive(Clone, Debug, PartialEq)]
enum Ruby {
    Nil,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Ruby {
    fn is_true(&self) -> bool {
        !matches!(self, Ruby::Nil | Ruby::Bool(false))
    }

    /// Ruby's `to_s`.
    fn to_text(&self) -> String {
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

/// Why evaluation ends before its value.
enum Halt {
    Nil,
    Default,
    Refused(Refusal),
}

type Step = Result<Ruby, Halt>;

struct Evaluator<'a> {
    world: &'a World,
    foreign: bool,
    depth: usize,
}

impl Evaluator<'_> {
    fn value(&mut self, node: &Node<'_>) -> Step {
        if self.depth >= DEEPEST {
            return refuse(node, "the expression is nested too deeply");
        }
        self.depth += 1;
        let value = self.node(node);
        self.depth -= 1;
        value
    }

    fn node(&mut self, node: &Node<'_>) -> Step {
        match node {
            Node::ProgramNode { .. } => self.last(node.as_program_node().map(|n| n.statements())),
            Node::StatementsNode { .. } => self.last(node.as_statements_node()),
            Node::ParenthesesNode { .. } => {
                match node.as_parentheses_node().and_then(|node| node.body()) {
                    Some(body) => self.value(&body),
                    None => Ok(Ruby::Nil),
                }
            }
            Node::ElseNode { .. } => {
                self.last(node.as_else_node().and_then(|node| node.statements()))
            }
            Node::NilNode { .. } => Ok(Ruby::Nil),
            Node::TrueNode { .. } => Ok(Ruby::Bool(true)),
            Node::FalseNode { .. } => Ok(Ruby::Bool(false)),
            Node::IntegerNode { .. } => integer(node),
            Node::FloatNode { .. } => Ok(Ruby::Float(
                node.as_float_node().map_or(0.0, |node| node.value()),
            )),
            _ => self.composed(node),
        }
    }

    fn composed(&mut self, node: &Node<'_>) -> Step {
        if let Some(string) = node.as_string_node() {
            return text(node, string.unescaped());
        }
        if let Some(string) = node.as_interpolated_string_node() {
            return self.interpolated(&string.parts());
        }
        if let Some(embedded) = node.as_embedded_statements_node() {
            return self.last(embedded.statements());
        }
        if let Some(or) = node.as_or_node() {
            let left = self.value(&or.left())?;
            return match left.is_true() {
                true => Ok(left),
                false => self.value(&or.right()),
            };
        }
        if let Some(and) = node.as_and_node() {
            let left = self.value(&and.left())?;
            return match left.is_true() {
                true => self.value(&and.right()),
                false => Ok(left),
            };
        }
        if let Some(if_node) = node.as_if_node() {
            return match self.value(&if_node.predicate())?.is_true() {
                true => self.last(if_node.statements()),
                false => if_node
                    .subsequent()
                    .map_or(Ok(Ruby::Nil), |node| self.value(&node)),
            };
        }
        if let Some(unless) = node.as_unless_node() {
            return match self.value(&unless.predicate())?.is_true() {
                false => self.last(unless.statements()),
                true => self.last(unless.else_clause().and_then(|node| node.statements())),
            };
        }
        match node.as_call_node() {
            Some(call) => self.call(node, &call),
            None => refuse(node, "this embedded Ruby is not supported"),
        }
    }

    fn last(&mut self, statements: Option<StatementsNode<'_>>) -> Step {
        let Some(statements) = statements else {
            return Ok(Ruby::Nil);
        };
        let mut value = Ruby::Nil;
        for statement in &statements.body() {
            value = self.value(&statement)?;
        }
        Ok(value)
    }

    fn interpolated(&mut self, parts: &NodeList<'_>) -> Step {
        let mut text = String::new();
        for part in parts {
            text += &self.value(&part)?.to_text();
        }
        Ok(Ruby::Text(text))
    }

    fn call(&mut self, node: &Node<'_>, call: &CallNode<'_>) -> Step {
        let name = String::from_utf8_lossy(call.name().as_slice()).into_owned();
        let mut arguments = Vec::new();
        if let Some(list) = call.arguments() {
            arguments.extend(list.arguments().iter());
        }
        let Some(receiver) = call.receiver() else {
            return self.function(node, &name, arguments.len());
        };
        if let Some(constant) = receiver.as_constant_read_node() {
            let constant = String::from_utf8_lossy(constant.name().as_slice()).into_owned();
            return self.on_constant(node, call, (&constant, &name), &arguments);
        }
        if call.block().is_some() {
            return refuse(node, "blocks are not supported in embedded Ruby");
        }
        let receiver = self.value(&receiver)?;
        if receiver == Ruby::Nil && call.is_safe_navigation() {
            return Ok(Ruby::Nil);
        }
        match arguments.as_slice() {
            [] => unary(node, &receiver, &name),
            [argument] => {
                let argument = self.value(argument)?;
                binary(node, &receiver, &name, &argument)
            }
            _ => refuse(node, "this embedded Ruby is not supported"),
        }
    }

    fn function(&mut self, node: &Node<'_>, name: &str, arguments: usize) -> Step {
        match name {
            _ if arguments > 0 => refuse(node, "this embedded Ruby is not supported"),
            "hostname" => Ok(Ruby::Text(self.world.hostname.clone())),
            // One process: what Fluentd gives under --no-supervisor.
            "worker_id" => Ok(Ruby::Text(String::new())),
            "use_default" => Err(Halt::Default),
            "use_nil" => Err(Halt::Nil),
            _ => refuse(node, format!("'{name}' is not known in embedded Ruby")),
        }
    }

    fn on_constant(
        &mut self,
        node: &Node<'_>,
        call: &CallNode<'_>,
        name: (&str, &str),
        arguments: &[Node<'_>],
    ) -> Step {
        match (name, arguments) {
            (("ENV", "[]"), [key]) => Ok(self.env(key)?.map_or(Ruby::Nil, Ruby::Text)),
            (("ENV", "key?" | "has_key?" | "include?"), [key]) => {
                Ok(Ruby::Bool(self.env(key)?.is_some()))
            }
            (("ENV", "fetch"), [key, rest @ ..]) if rest.len() < 2 => {
                if let Some(value) = self.env(key)? {
                    return Ok(Ruby::Text(value));
                }
                let block = call.block().and_then(|block| block.as_block_node());
                match (rest, block.map(|block| block.body())) {
                    ([default], _) => self.value(default),
                    (_, Some(Some(body))) => self.value(&body),
                    (_, Some(None)) => Ok(Ruby::Nil),
                    (_, None) => refuse(node, "the environment variable is not set"),
                }
            }
            (("Socket", "gethostname"), []) => Ok(Ruby::Text(self.world.hostname.clone())),
            (("File", "read"), [path]) => self.read_file(node, path),
            _ => refuse(
                node,
                format!("'{}.{}' is not supported in embedded Ruby", name.0, name.1),
            ),
        }
    }

    fn env(&mut self, key: &Node<'_>) -> Result<Option<String>, Halt> {
        self.foreign = true;
        let name = self.value(key)?.to_text();
        Ok(self.world.env.get(&name).cloned())
    }

    fn read_file(&mut self, node: &Node<'_>, path: &Node<'_>) -> Step {
        self.foreign = true;
        let path = self.value(path)?.to_text();
        let size = std::fs::metadata(&path).map(|metadata| metadata.len());
        if size.as_ref().is_ok_and(|size| *size > LARGEST_FILE) {
            return refuse(node, "the file is larger than 1 MB");
        }
        match size.and_then(|_| std::fs::read_to_string(&path)) {
            Ok(text) => Ok(Ruby::Text(text)),
            Err(error) => refuse(node, format!("the file cannot be read: {error}")),
        }
    }
}

/// A method without arguments.
fn unary(node: &Node<'_>, value: &Ruby, name: &str) -> Step {
    let text = value.to_text();
    match (name, value) {
        ("!", _) => Ok(Ruby::Bool(!value.is_true())),
        ("nil?", _) => Ok(Ruby::Bool(*value == Ruby::Nil)),
        ("to_s", _) => Ok(Ruby::Text(text)),
        ("to_i", Ruby::Nil) => Ok(Ruby::Integer(0)),
        ("to_i", Ruby::Integer(_)) | ("to_f", Ruby::Float(_)) => Ok(value.clone()),
        ("to_i", Ruby::Float(float)) => Ok(Ruby::Integer(*float as i64)),
        ("to_i", Ruby::Text(_)) => {
            let read = super::convert::integer(text.trim_start()).map_or(0, |read| read.value);
            number(node, i64::try_from(read).ok())
        }
        ("to_f", Ruby::Nil) => Ok(Ruby::Float(0.0)),
        ("to_f", Ruby::Integer(integer)) => Ok(Ruby::Float(*integer as f64)),
        ("to_f", Ruby::Text(_)) => Ok(Ruby::Float(
            super::convert::float(text.trim_start()).map_or(0.0, |read| read.value),
        )),
        ("-@", Ruby::Integer(integer)) => number(node, integer.checked_neg()),
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
        _ => refuse(node, not_there(value, name)),
    }
}

/// An operator.
fn binary(node: &Node<'_>, left: &Ruby, name: &str, right: &Ruby) -> Step {
    let equal = match (left.as_float(), right.as_float()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    };
    match (name, left, right) {
        ("==", _, _) => Ok(Ruby::Bool(equal)),
        ("!=", _, _) => Ok(Ruby::Bool(!equal)),
        ("+", Ruby::Text(left), Ruby::Text(right)) => Ok(Ruby::Text(format!("{left}{right}"))),
        (_, Ruby::Integer(left), Ruby::Integer(right)) => integers(node, *left, name, *right),
        _ => match (left.as_float(), right.as_float()) {
            (Some(left), Some(right)) => floats(node, left, name, right),
            _ => refuse(
                node,
                format!("{} with {}", not_there(left, name), right.class()),
            ),
        },
    }
}

fn integers(node: &Node<'_>, left: i64, name: &str, right: i64) -> Step {
    // Ruby rounds a division down, and the remainder has the sign of the divisor.
    let floor =
        |quotient: i64, remainder: i64| match remainder != 0 && (remainder < 0) != (right < 0) {
            true => (quotient - 1, remainder + right),
            false => (quotient, remainder),
        };
    let divided = || Some(floor(left.checked_div(right)?, left.checked_rem(right)?));
    match name {
        "+" => number(node, left.checked_add(right)),
        "-" => number(node, left.checked_sub(right)),
        "*" => number(node, left.checked_mul(right)),
        "/" => number(node, divided().map(|(quotient, _)| quotient)),
        "%" => number(node, divided().map(|(_, remainder)| remainder)),
        "**" => {
            let power = u32::try_from(right).ok();
            number(node, power.and_then(|power| left.checked_pow(power)))
        }
        "<" => Ok(Ruby::Bool(left < right)),
        ">" => Ok(Ruby::Bool(left > right)),
        "<=" => Ok(Ruby::Bool(left <= right)),
        ">=" => Ok(Ruby::Bool(left >= right)),
        _ => refuse(node, not_there(&Ruby::Integer(left), name)),
    }
}

fn floats(node: &Node<'_>, left: f64, name: &str, right: f64) -> Step {
    match name {
        "+" => Ok(Ruby::Float(left + right)),
        "-" => Ok(Ruby::Float(left - right)),
        "*" => Ok(Ruby::Float(left * right)),
        "/" => Ok(Ruby::Float(left / right)),
        "<" => Ok(Ruby::Bool(left < right)),
        ">" => Ok(Ruby::Bool(left > right)),
        "<=" => Ok(Ruby::Bool(left <= right)),
        ">=" => Ok(Ruby::Bool(left >= right)),
        _ => refuse(node, not_there(&Ruby::Float(left), name)),
    }
}

fn integer(node: &Node<'_>) -> Step {
    let text = String::from_utf8_lossy(node.location().as_slice()).replace('_', "");
    match text.strip_prefix('-').unwrap_or(&text).starts_with('0') && text.len() > 1 {
        true => refuse(node, "only decimal numbers are supported in embedded Ruby"),
        false => number(node, text.parse().ok()),
    }
}

fn text(node: &Node<'_>, bytes: &[u8]) -> Step {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Ruby::Text(text.to_owned())),
        Err(_) => refuse(node, "the string is not UTF-8"),
    }
}

fn number(node: &Node<'_>, value: Option<i64>) -> Step {
    match value {
        Some(value) => Ok(Ruby::Integer(value)),
        None => refuse(node, "the number is too large, or divided by zero"),
    }
}

fn not_there(value: &Ruby, name: &str) -> String {
    let class = value.class();
    let hint = match value {
        Ruby::Nil => ", which an environment variable is that is not set",
        _ => "",
    };
    format!("'{name}' is not supported on {class}{hint}")
}

fn refuse(node: &Node<'_>, message: impl Into<String>) -> Step {
    let location = node.location();
    Err(Halt::Refused(Refusal {
        place: location.start() as usize..location.end() as usize,
        message: message.into(),
    }))
}

#[cfg(test)]
#[path = "ruby_tests.rs"]
mod tests;
