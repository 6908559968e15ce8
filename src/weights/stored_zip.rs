//! Where the tensors of a PyTorch zip file stand in it.
//!
//! `torch.save` stores every storage uncompressed, so a contiguous tensor is a range of the file, which can be read in
//! parts and copied as it is. `pytorch-reader` does not say where that is; this follows the few pickle opcodes that a
//! saved state dict consists of, and gives up on anything else: then tensors are read whole, by the reader. Every range
//! is checked against the shape and type that the reader found. The zip file's checksums are not checked.

use super::source::{Entry, Stored};
use crate::ir::DType;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::rc::Rc;
use zip::{CompressionMethod, ZipArchive};

/// Largest pickle that is followed: those of large models have a few megabytes.
const LARGEST: u64 = 64 << 20;
/// Dictionaries in dictionaries that names are collected from.
const DEEPEST: usize = 8;

/// For each entry, known to the file under the name beside it, its range in the file, where it is contiguous.
pub(super) fn places(file: &File, entries: &[(String, &Entry)]) -> Option<Vec<Option<Range<u64>>>> {
    let length = file.metadata().ok()?.len();
    let mut archive = ZipArchive::new(file).ok()?;
    let names: Vec<String> = archive.file_names().filter_map(|n| Some(n.ok()?.to_string())).collect();
    let roots = names.iter().filter_map(|n| n.strip_suffix("data.pkl")).filter(|r| r.is_empty() || r.ends_with('/'));
    let root = roots.min_by_key(|r| r.len())?.to_owned();
    let mut pickle = Vec::new();
    archive.by_name(&format!("{root}data.pkl")).ok()?.take(LARGEST + 1).read_to_end(&mut pickle).ok()?;
    let tensors = tensors(&pickle).filter(|_| pickle.len() as u64 <= LARGEST)?;
    let mut place = |(name, entry): &(String, &Entry)| {
        let t = tensors.get(name)?;
        let size = entry.stored.dtype()?.size();
        if t.shape != entry.shape || stored(&t.storage.class) != Some(entry.stored) {
            return None;
        }
        let storage = archive.by_name(&format!("{root}data/{}", t.storage.key)).ok()?;
        let whole = storage.compression() == CompressionMethod::Stored && storage.compressed_size() == storage.size();
        let start = t.offset.checked_mul(size)? as u64;
        let end = start.checked_add(entry.elements().checked_mul(size)? as u64)?;
        let at = storage.data_start().filter(|_| whole && end <= storage.size())?;
        let range = at.checked_add(start)?..at.checked_add(end)?;
        (range.end <= length).then_some(range)
    };
    Some(entries.iter().map(&mut place).collect())
}

/// The element type of a storage class, where it is one that is read.
fn stored(class: &str) -> Option<Stored> {
    let dtype = match class {
        "torch.DoubleStorage" => DType::F64,
        "torch.FloatStorage" => DType::F32,
        "torch.HalfStorage" => DType::F16,
        "torch.BFloat16Storage" => DType::BF16,
        "torch.LongStorage" => DType::I64,
        "torch.IntStorage" => DType::I32,
        "torch.CharStorage" => DType::I8,
        "torch.ByteStorage" => DType::U8,
        "torch.BoolStorage" => DType::Bool,
        _ => return None,
    };
    Some(dtype.into())
}

#[derive(Debug)]
struct Storage {
    class: Rc<str>,
    key: Rc<str>,
}

/// A contiguous tensor: elements of a storage from an offset on.
#[derive(Clone, Debug)]
struct Tensor {
    storage: Rc<Storage>,
    offset: usize,
    shape: Vec<usize>,
}

type Items = Rc<RefCell<Vec<(Rc<str>, Value)>>>;

#[derive(Clone, Debug)]
enum Value {
    Mark,
    Int(usize),
    Text(Rc<str>),
    Class(Rc<str>),
    Tuple(Rc<[Value]>),
    Dict(Items),
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
    /// Anything that is no part of a tensor.
    Other,
}

/// The contiguous tensors of a pickle by their dotted names; `None` when it holds opcodes that are not followed.
fn tensors(pickle: &[u8]) -> Option<BTreeMap<String, Rc<Tensor>>> {
    let mut machine = Machine { rest: pickle, stack: Vec::new(), memo: HashMap::new() };
    while machine.step()? {}
    let mut out = BTreeMap::new();
    // A dictionary may stand in several places, and in itself: what is visited is bounded by depth and number.
    let mut left = pickle.len();
    collect(&machine.stack.pop()?, String::new(), 0, &mut left, &mut out)?;
    Some(out.into_iter().filter_map(|(name, t)| Some((name, t?))).collect())
}

fn collect(
    value: &Value,
    name: String,
    depth: usize,
    left: &mut usize,
    out: &mut BTreeMap<String, Option<Rc<Tensor>>>,
) -> Option<()> {
    *left = left.checked_sub(1)?;
    match value {
        Value::Tensor(t) => {
            // Of two tensors of one name, neither is known.
            out.entry(name).and_modify(|t| *t = None).or_insert_with(|| Some(t.clone()));
        }
        Value::Dict(items) if depth < DEEPEST => {
            for (key, value) in items.borrow().iter() {
                let name = if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
                collect(value, name, depth + 1, left, out)?;
            }
        }
        _ => {}
    }
    Some(())
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    memo: HashMap<usize, Value>,
}

impl<'a> Machine<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// A little-endian number of `n` bytes.
    fn number(&mut self, n: usize) -> Option<usize> {
        Some(self.bytes(n)?.iter().rev().fold(0, |x, &b| x << 8 | usize::from(b)))
    }

    fn text(&mut self, n: usize) -> Option<Rc<str>> {
        std::str::from_utf8(self.bytes(n)?).ok().map(Rc::from)
    }

    fn line(&mut self) -> Option<&'a str> {
        let end = self.rest.iter().position(|&b| b == b'\n')?;
        let line = std::str::from_utf8(self.bytes(end)?).ok();
        self.bytes(1)?;
        line
    }

    /// What stands above the last mark.
    fn marked(&mut self) -> Option<Vec<Value>> {
        let at = self.stack.iter().rposition(|v| matches!(v, Value::Mark))?;
        let taken = self.stack.split_off(at + 1);
        self.stack.pop();
        Some(taken)
    }

    fn tuple(&mut self, n: usize) -> Option<Value> {
        let taken = self.stack.split_off(self.stack.len().checked_sub(n)?);
        Some(Value::Tuple(taken.into()))
    }

    fn set(&mut self, items: &[Value]) -> Option<()> {
        let Value::Dict(dict) = self.stack.last()? else { return Some(()) };
        for pair in items.chunks_exact(2) {
            let key = match &pair[0] {
                Value::Text(key) => key.clone(),
                Value::Int(key) => key.to_string().into(),
                _ => continue,
            };
            dict.borrow_mut().push((key, pair[1].clone()));
        }
        Some(())
    }

    /// Follows one opcode; false at the end.
    fn step(&mut self) -> Option<bool> {
        let value = match self.bytes(1)?[0] {
            b'.' => return Some(false),
            0x80 => return self.bytes(1).map(|_| true),
            0x95 => return self.bytes(8).map(|_| true),
            op @ (b'q' | b'r' | 0x94) => {
                let at = if op == 0x94 { self.memo.len() } else { self.number(if op == b'q' { 1 } else { 4 })? };
                self.memo.insert(at, self.stack.last()?.clone());
                return Some(true);
            }
            b'u' | b'e' => {
                let items = self.marked()?;
                self.set(&items)?;
                return Some(true);
            }
            b's' => {
                let Value::Tuple(items) = self.tuple(2)? else { return None };
                self.set(&items)?;
                return Some(true);
            }
            // The state of an object, an element of a list: no part of a state dict.
            b'b' | b'a' => return self.stack.pop().map(|_| true),
            b'h' => self.number(1).and_then(|at| self.memo.get(&at).cloned())?,
            b'j' => self.number(4).and_then(|at| self.memo.get(&at).cloned())?,
            b'(' => Value::Mark,
            b')' => Value::Tuple(Rc::from([])),
            b'}' => Value::Dict(Items::default()),
            b'X' => self.number(4).and_then(|n| self.text(n)).map(Value::Text)?,
            0x8c => self.number(1).and_then(|n| self.text(n)).map(Value::Text)?,
            b'K' => Value::Int(self.number(1)?),
            b'M' => Value::Int(self.number(2)?),
            b'J' => i32::try_from(self.number(4)? as u32).map_or(Value::Other, |n| Value::Int(n as usize)),
            0x8a => match self.number(1)? {
                n @ 0..=7 => Value::Int(self.number(n)?),
                n => self.bytes(n).map(|_| Value::Other)?,
            },
            b'G' => self.bytes(8).map(|_| Value::Other)?,
            b'N' | 0x88 | 0x89 | b']' => Value::Other,
            b't' => Value::Tuple(self.marked()?.into()),
            n @ 0x85..=0x87 => self.tuple(usize::from(n - 0x84))?,
            b'c' => Value::Class(format!("{}.{}", self.line()?, self.line()?).into()),
            0x93 => match &*self.stack.split_off(self.stack.len().checked_sub(2)?) {
                [Value::Text(module), Value::Text(name)] => Value::Class(format!("{module}.{name}").into()),
                _ => return None,
            },
            b'Q' => match self.stack.pop()? {
                Value::Tuple(id) => match &*id {
                    [Value::Text(what), Value::Class(class), Value::Text(key), ..] if &**what == "storage" => {
                        Value::Storage(Rc::new(Storage { class: class.clone(), key: key.clone() }))
                    }
                    _ => return None,
                },
                _ => return None,
            },
            b'R' | 0x81 => {
                let (arguments, callable) = (self.stack.pop()?, self.stack.pop()?);
                called(&callable, &arguments)
            }
            _ => return None,
        };
        self.stack.push(value);
        Some(true)
    }
}

/// The result of a call, as far as it is needed here.
fn called(callable: &Value, arguments: &Value) -> Value {
    let (Value::Class(class), Value::Tuple(x)) = (callable, arguments) else { return Value::Other };
    match (&**class, &**x) {
        ("collections.OrderedDict", []) => Value::Dict(Items::default()),
        ("torch._utils._rebuild_parameter", [data, ..]) => data.clone(),
        (
            "torch._utils._rebuild_tensor_v2",
            [Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(stride), ..],
        ) => {
            let sizes = |t: &[Value]| {
                t.iter().map(|v| if let Value::Int(n) = v { Some(*n) } else { None }).collect::<Option<Vec<_>>>()
            };
            let (Some(shape), Some(stride)) = (sizes(shape), sizes(stride)) else { return Value::Other };
            let mut next = Some(1usize);
            let contiguous = shape.len() == stride.len()
                && shape.iter().zip(&stride).rev().all(|(&d, &step)| {
                    let fits = d == 1 || Some(step) == next;
                    next = next.and_then(|n| n.checked_mul(d));
                    fits
                });
            let tensor = Tensor { storage: storage.clone(), offset: *offset, shape };
            if contiguous { Value::Tensor(Rc::new(tensor)) } else { Value::Other }
        }
        _ => Value::Other,
    }
}
