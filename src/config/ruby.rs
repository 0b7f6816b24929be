//! Embedded Ruby, `"#{…}"`: parsed by Ruby's own parser (prism), evaluated here for the short list of forms that configurations use.
//!
//! Everything else is an error at its place in the file. What a configuration may see of the machine comes through [`World`].

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use ruby_prism::{CallNode, Node, NodeList, StatementsNode};

use super::ruby_value::{Ruby, binary, unary, whole};

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
#[derive(Clone)]
pub struct World {
    /// The environment; variables that are not UTF-8 do not exist.
    pub env: BTreeMap<String, String>,
    /// `hostname` and `Socket.gethostname`.
    pub hostname: String,
}

impl fmt::Debug for World {
    /// Without the environment: it holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
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
            [] => unary(&receiver, &name).or_else(|message| refuse(node, message)),
            [argument] => {
                let argument = self.value(argument)?;
                binary(&receiver, &name, &argument).or_else(|message| refuse(node, message))
            }
            _ => refuse(node, "this embedded Ruby is not supported"),
        }
    }

    fn function(&mut self, node: &Node<'_>, name: &str, arguments: usize) -> Step {
        match name {
            _ if arguments > 0 => refuse(node, "this embedded Ruby is not supported"),
            "hostname" => Ok(Ruby::Text(self.world.hostname.clone())),
            // One process: Fluentd's only worker.
            "worker_id" => Ok(Ruby::Text("0".to_owned())),
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

fn integer(node: &Node<'_>) -> Step {
    let text = String::from_utf8_lossy(node.location().as_slice()).replace('_', "");
    match text.strip_prefix('-').unwrap_or(&text).starts_with('0') && text.len() > 1 {
        true => refuse(node, "only decimal numbers are supported in embedded Ruby"),
        false => whole(text.parse().ok()).or_else(|message| refuse(node, message)),
    }
}

fn text(node: &Node<'_>, bytes: &[u8]) -> Step {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Ruby::Text(text.to_owned())),
        Err(_) => refuse(node, "the string is not UTF-8"),
    }
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
