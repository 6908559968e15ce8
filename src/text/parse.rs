//! Reads a graph from text: the inverse of [`print`](super::print).
//!
//! Only valid graphs are accepted: types are inferred and compared with the written ones, names
//! are resolved where they are read, and ops are checked against the stage.

use super::cursor::{Cursor, ParseError};
use super::names::join;
use super::values::{Symbols, attributes, init, is_reserved, tensor_type};
use crate::ir::{Operands, Operator as _, Origin, Stage, Symbol, TensorType, ValueId};
use crate::ops::{Graph, Op};
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, ParseError>;

/// Reads the only graph in a text.
pub fn parse(text: &str) -> Result<Graph> {
    let mut graphs = parse_all(text)?.into_iter();
    let end = || Cursor::new(text);
    match (graphs.next(), graphs.next()) {
        (Some(g), None) => Ok(g),
        (None, _) => end().expected("`graph NAME  stage STAGE`"),
        (Some(_), Some(second)) => {
            Err(end().error_at(text.len(), format!("expected one graph, found a second one named `{}`", second.name)))
        }
    }
}

/// Reads every graph in a text, in order.
pub fn parse_all(text: &str) -> Result<Vec<Graph>> {
    let mut c = Cursor::new(text);
    let mut graphs = Vec::new();
    let mut reader: Option<Reader> = None;
    while c.statement() {
        if let Some(r) = &mut reader
            && !c.at_word("graph")
        {
            r.statement(&mut c)?;
        } else {
            graphs.extend(reader.replace(Reader::open(&mut c)?).map(|r| r.g));
        }
        c.end_of_line()?;
    }
    graphs.extend(reader.map(|r| r.g));
    Ok(graphs)
}

/// A graph that is being read, and the values of its names.
struct Reader {
    g: Graph,
    symbols: Symbols,
    inputs: BTreeMap<String, ValueId>,
    params: BTreeMap<String, ValueId>,
    outputs: BTreeSet<String>,
    /// The values of each scope by number.
    scopes: BTreeMap<String, BTreeMap<u64, ValueId>>,
    /// The open scope.
    scope: Option<String>,
}

impl Reader {
    /// `graph NAME  stage STAGE`
    fn open(c: &mut Cursor<'_>) -> Result<Self> {
        if !c.at_word("graph") {
            return c.expected("`graph NAME  stage STAGE`");
        }
        c.word("`graph`")?;
        let name = c.name("the name of the graph")?;
        c.peek();
        if !c.at_word("stage") {
            return c.expected("`stage`");
        }
        c.word("`stage`")?;
        let start = c.start();
        let word = c.word("a stage")?;
        let Some(stage) = Stage::ALL.into_iter().find(|s| s.name() == word) else {
            let all = Stage::ALL.map(Stage::name).join(", ");
            return Err(c.error_at(start, format!("expected a stage ({all}), found `{word}`")));
        };
        Ok(Self {
            g: Graph::new(name, stage),
            symbols: Symbols::new(),
            inputs: BTreeMap::new(),
            params: BTreeMap::new(),
            outputs: BTreeSet::new(),
            scopes: BTreeMap::new(),
            scope: None,
        })
    }

    fn statement(&mut self, c: &mut Cursor<'_>) -> Result<()> {
        const WHAT: &str = "`graph`, `symbol`, `input`, `param`, `buffer`, `output`, `[SCOPE]` or `%NUMBER = …`";
        match c.peek() {
            Some('[') => self.header(c),
            Some('%') => self.node(c),
            _ => {
                let start = c.offset();
                match c.word(WHAT)? {
                    "symbol" => self.symbol(c),
                    "input" => self.input(c),
                    "param" => self.param(c, true),
                    "buffer" => self.param(c, false),
                    "output" => self.output(c),
                    word => Err(c.error_at(start, format!("expected {WHAT}, found `{word}`"))),
                }
            }
        }
    }

    /// `[path]`, or `[]` for the root
    fn header(&mut self, c: &mut Cursor<'_>) -> Result<()> {
        c.expect('[')?;
        let path = if c.peek() == Some(']') { String::new() } else { c.name("the path of a scope, or `]`")? };
        c.expect(']')?;
        self.scope = Some(path);
        Ok(())
    }

    /// `symbol NAME`
    fn symbol(&mut self, c: &mut Cursor<'_>) -> Result<()> {
        let start = c.start();
        let name = c.word("the name of a symbol")?;
        let Some(symbol) = Symbol::new(name) else {
            return Err(c.error_at(start, format!("a symbol begins with a letter, found `{name}`")));
        };
        if is_reserved(name) {
            return Err(
                c.error_at(start, format!("`{name}` is a word of the text form: use another name for the symbol"))
            );
        }
        if !self.symbols.insert(symbol.clone()) {
            return Err(c.error_at(start, format!("symbol `{name}` is declared twice")));
        }
        self.g.declare(symbol);
        Ok(())
    }

    /// `input NAME : TYPE`
    fn input(&mut self, c: &mut Cursor<'_>) -> Result<()> {
        let (name, start) = some_name(c, "the name of the input")?;
        c.expect(':')?;
        let ty = tensor_type(c, &self.symbols)?;
        let v = self.g.add_input(name.clone(), ty);
        unique(c, start, "input", &name, self.inputs.insert(name.clone(), v).is_none())
    }

    /// `param PATH : TYPE INIT`, or `buffer`
    fn param(&mut self, c: &mut Cursor<'_>, trainable: bool) -> Result<()> {
        let start = c.start();
        let path = self.path(c)?;
        c.expect(':')?;
        let ty = tensor_type(c, &self.symbols)?;
        let init = init(c, &ty)?;
        let v = self.g.add_param(path.clone(), ty, init, trainable);
        unique(c, start, "parameter", &path, self.params.insert(path.clone(), v).is_none())
    }

    /// Reads the path of a parameter: `/full.path`, or relative to the open scope.
    fn path(&self, c: &mut Cursor<'_>) -> Result<String> {
        let start = c.start();
        if c.eat('/') {
            return some_name(c, "the full path of a parameter").map(|(path, _)| path);
        }
        let name = c.name("the path of a parameter")?;
        let Some(scope) = &self.scope else {
            return Err(c.error_at(start, format!("no scope is open: write `/{name}` for the full path")));
        };
        let path = join(scope, &name);
        if path.is_empty() { Err(c.error_at(start, "the path of a parameter is empty")) } else { Ok(path) }
    }

    /// `output NAME = VALUE`
    fn output(&mut self, c: &mut Cursor<'_>) -> Result<()> {
        let (name, start) = some_name(c, "the name of the output")?;
        c.expect('=')?;
        // Outputs are outside all scopes: a bare number would depend on the previous lines.
        let scope = self.scope.take();
        let value = self.value(c);
        self.scope = scope;
        self.g.add_output(name.clone(), value?);
        unique(c, start, "output", &name, self.outputs.insert(name.clone()))
    }

    /// `%0, %1 = OP OPERANDS {ATTRIBUTES} : TYPES`
    fn node(&mut self, c: &mut Cursor<'_>) -> Result<()> {
        let Some(scope) = self.scope.clone() else {
            return c.expected("`[SCOPE]` before the first value (`[]` is the root)");
        };
        let mut results = Vec::new();
        loop {
            c.expect('%')?;
            let (start, number) = (c.offset(), number(c)?);
            let known = self.scopes.get(&scope).is_some_and(|s| s.contains_key(&number));
            if known || results.contains(&number) {
                return Err(c.error_at(start, format!("%{number} is defined twice in this scope")));
            }
            results.push(number);
            if !c.eat(',') {
                break;
            }
        }
        c.expect('=')?;
        let at_op = c.start();
        let mnemonic = c.word("the name of an op")?;
        let inputs = self.operands(c)?;
        let attrs = attributes(c, &self.symbols)?;
        let op = Op::parse(mnemonic, attrs).map_err(|e| c.error_at(at_op, e))?;
        c.expect(':')?;
        let at_types = c.start();
        let types = c.list(|c| tensor_type(c, &self.symbols))?;
        if !op.allowed(self.g.stage) {
            return Err(c.error_at(at_op, format!("{mnemonic} may not occur at stage {}", self.g.stage)));
        }
        // Checked before the node is added, so that no type larger than the written one is built.
        let operands: Vec<&TensorType> = inputs.iter().map(|&v| self.g.ty(v)).collect();
        let inferred = op.infer(&operands).map_err(|e| c.error_at(at_op, format!("{mnemonic}: {e}")))?;
        if inferred != types {
            let message = format!("{mnemonic} gives {}, found {}", list(&inferred), list(&types));
            return Err(c.error_at(at_types, message));
        }
        if results.len() != types.len() {
            let message = format!("{mnemonic} has {} results, found {} names for them", types.len(), results.len());
            return Err(c.error_at(at_op, message));
        }
        let origin = Origin { scope: self.g.scope(&scope), at: None, rule: None };
        let node = self.g.add_node(op, inputs, origin).map_err(|e| c.error_at(at_op, format!("{mnemonic}: {e}")))?;
        let values = self.g.node(node).outputs();
        self.scopes.entry(scope).or_default().extend(results.into_iter().zip(values));
        Ok(())
    }

    fn operands(&self, c: &mut Cursor<'_>) -> Result<Operands> {
        match c.peek() {
            Some('{' | ':') => Ok(Operands::new()),
            _ => Ok(c.list(|c| self.value(c))?.into()),
        }
    }

    /// `%3`, `%scope/3`, `%/3`, `@path`, `@/full.path` or the name of an input
    fn value(&self, c: &mut Cursor<'_>) -> Result<ValueId> {
        let start = c.start();
        let (found, what) = if c.eat('@') {
            let path = self.path(c)?;
            (self.params.get(&path), format!("parameter `{path}`"))
        } else if c.eat('%') {
            let here = c.clone();
            let scope = if c.peek_here() == Some('/') { String::new() } else { c.name("a number or a scope")? };
            let scope = if c.peek_here() == Some('/') {
                c.expect('/')?;
                scope
            } else {
                *c = here;
                match &self.scope {
                    Some(scope) => scope.clone(),
                    None => return Err(c.error_at(start, "expected `%SCOPE/NUMBER`: no scope is open here")),
                }
            };
            let number = number(c)?;
            let place = if scope.is_empty() { "the root scope".to_owned() } else { format!("scope `{scope}`") };
            (self.scopes.get(&scope).and_then(|s| s.get(&number)), format!("value %{number} of {place}"))
        } else {
            let name = c.name("a value: %NUMBER, %SCOPE/NUMBER, @PARAMETER or the name of an input")?;
            let found = self.inputs.get(&name);
            (found, format!("input `{name}`"))
        };
        found.copied().ok_or_else(|| c.error_at(start, format!("{what} is not defined before this line")))
    }
}

/// Reads the number of a value within its scope.
fn number(c: &mut Cursor<'_>) -> Result<u64> {
    let start = c.start();
    let word = c.word("the number of a value")?;
    word.parse().map_err(|_| c.error_at(start, format!("expected the number of a value, found `{word}`")))
}

/// Reads a name that is not empty, and returns where it begins.
fn some_name(c: &mut Cursor<'_>, what: &str) -> Result<(String, usize)> {
    let start = c.start();
    let name = c.name(what)?;
    if name.is_empty() { Err(c.error_at(start, format!("{what} is empty"))) } else { Ok((name, start)) }
}

fn unique(c: &Cursor<'_>, start: usize, what: &str, name: &str, new: bool) -> Result<()> {
    if new { Ok(()) } else { Err(c.error_at(start, format!("there already is {what} `{name}`"))) }
}

fn list(types: &[TensorType]) -> String {
    types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
