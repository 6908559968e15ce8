//! Carried values in ONNX Runtime: two sets of buffers, read and written in turn.
//!
//! A step reads one set and writes the other, so that a step that fails leaves the values it started from untouched.
//! Each set has an `IoBinding` with its buffers as inputs and those of the other set as outputs. The buffers come from
//! the runtime's own allocator, on the device that runs the model: `bind_output` accepts no others, and `bind_input`
//! would copy borrowed memory.

use super::carry::tensor;
use super::session::{OrtSession, said};
use crate::ir::{Array, Element, Tensor};
use crate::runtime::EngineError;
use crate::runtime::bound::{Keep, Plan};
use ::ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ::ort::session::IoBinding;
use ::ort::value::{DynTensor, PrimitiveTensorElementType, Tensor as Value};
use std::fmt::Debug;

/// A session and its carried values. Buffers and bindings are dropped before the session that they belong to.
pub(super) struct Kept {
    sides: [Side; 2],
    /// The side that the next step reads.
    now: usize,
    session: OrtSession,
}

struct Side {
    binding: IoBinding,
    /// One buffer for each carried value.
    values: Vec<DynTensor>,
}

impl Kept {
    pub(super) fn new(session: OrtSession, plan: &Plan, start: &[Tensor]) -> Result<Self, EngineError> {
        let made = || -> Result<[Side; 2], ::ort::Error> {
            let allocator = if session.accelerated {
                let info = MemoryInfo::new(AllocationDevice::CUDA, 0, AllocatorType::Device, MemoryType::Default)?;
                Allocator::new(&session.native, info)?
            } else {
                Allocator::default()
            };
            let side = || -> Result<Side, ::ort::Error> {
                let values = start.iter().map(|t| buffer(&allocator, t)).collect::<Result<_, _>>()?;
                Ok(Side { binding: session.native.create_binding()?, values })
            };
            let mut sides = [side()?, side()?];
            for (value, t) in sides[0].values.iter_mut().zip(start) {
                owned(t)?.copy_into(value)?;
            }
            let [a, b] = &mut sides;
            for (i, c) in plan.carried.iter().enumerate() {
                a.binding.bind_input(&c.input.name, &a.values[i])?;
                a.binding.bind_output(&c.output, &mut b.values[i])?;
                b.binding.bind_input(&c.input.name, &b.values[i])?;
                b.binding.bind_output(&c.output, &mut a.values[i])?;
            }
            Ok(sides)
        };
        let sides = made().map_err(|e| session.failed(&e))?;
        Ok(Self { sides, now: 0, session })
    }
}

impl Keep for Kept {
    fn step(&mut self, plan: &Plan, data: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, EngineError> {
        let Side { binding, values } = &mut self.sides[self.now];
        let accelerated = self.session.accelerated;
        let mut bind = || -> Result<(), ::ort::Error> {
            if accelerated {
                // An input that a node on the CPU reads is copied there when it is bound, so bind it again.
                for (c, value) in plan.carried.iter().zip(&*values) {
                    binding.bind_input(&c.input.name, value)?;
                }
            }
            for (name, t) in data {
                binding.bind_input(name, &owned(t)?)?;
            }
            // The runtime would write into the results of the last run, whose shape may be another.
            plan.results.iter().try_for_each(|r| binding.bind_output_to_device(&r.name, &MemoryInfo::default()))
        };
        bind().map_err(|e| self.session.failed(&e))?;
        let engine = &self.session.engine;
        let failed = |e: ::ort::Error| EngineError::Run { engine: engine.clone(), reason: said(&e) };
        let mut outputs = self.session.native.run_binding(binding).map_err(failed)?;
        let results = plan
            .results
            .iter()
            .map(|port| {
                let value = outputs.remove(&port.name).expect("every result is bound");
                Ok((port.name.clone(), tensor(port.dtype, &value).map_err(failed)?))
            })
            .collect::<Result<_, EngineError>>()?;
        self.now = 1 - self.now;
        Ok(results)
    }

    fn get(&self, plan: &Plan, i: usize) -> Result<Tensor, EngineError> {
        let read = || {
            let here = self.sides[self.now].values[i].to(AllocationDevice::CPU, 0)?;
            tensor(plan.carried[i].input.dtype, &here.into_dyn())
        };
        read().map_err(|e| self.session.failed(&e))
    }

    fn set(&mut self, i: usize, value: &Tensor) -> Result<(), EngineError> {
        let buffer = &mut self.sides[self.now].values[i];
        owned(value).and_then(|v| v.copy_into(buffer)).map_err(|e| self.session.failed(&e))
    }
}

/// Memory for a value of the type and shape of `like`.
fn buffer(allocator: &Allocator, like: &Tensor) -> Result<DynTensor, ::ort::Error> {
    fn go<A: Element + PrimitiveTensorElementType + Debug>(
        allocator: &Allocator,
        like: &Array<A>,
    ) -> Result<DynTensor, ::ort::Error> {
        Ok(Value::<A>::new(allocator, like.shape())?.upcast())
    }
    crate::with_array!(like, a => go(allocator, a))
}

/// A copy of the tensor that the runtime owns. (Binding borrowed memory would make the runtime copy it with a lock held
/// that the copy waits for.)
fn owned(t: &Tensor) -> Result<DynTensor, ::ort::Error> {
    fn go<A: Element + PrimitiveTensorElementType + Debug>(a: &Array<A>) -> Result<DynTensor, ::ort::Error> {
        Ok(Value::from_array((a.shape(), a.iter().copied().collect::<Vec<A>>()))?.upcast())
    }
    crate::with_array!(t, a => go(a))
}
