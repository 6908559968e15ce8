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
                write(value, t)?;
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
        let OrtSession { native, quiet, engine, .. } = &mut self.session;
        let failed = |e: ::ort::Error| EngineError::Run { engine: engine.clone(), reason: said(&e) };
        let mut outputs = native.run_binding_with_options(binding, quiet).map_err(failed)?;
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
        let (here, dtype) = (&self.sides[self.now].values[i], plan.carried[i].input.dtype);
        let read = || {
            if here.memory_info().is_cpu_accessible() {
                tensor(dtype, &here.view().into_dyn())
            } else {
                tensor(dtype, &here.to(AllocationDevice::CPU, 0)?.into_dyn())
            }
        };
        read().map_err(|e| self.session.failed(&e))
    }

    fn set(&mut self, i: usize, value: &Tensor) -> Result<(), EngineError> {
        write(&mut self.sides[self.now].values[i], value).map_err(|e| self.session.failed(&e))
    }
}

/// Copies a tensor into a buffer of its type and shape. (To another device, the `ort` crate copies by running a model at
/// an optimization level that old releases, 1.19 among them, refuse.)
fn write(buffer: &mut DynTensor, t: &Tensor) -> Result<(), ::ort::Error> {
    fn go<A: Element + PrimitiveTensorElementType>(buffer: &mut DynTensor, a: &Array<A>) -> Result<(), ::ort::Error> {
        let (_, to) = buffer.try_extract_tensor_mut::<A>()?;
        to.iter_mut().zip(a).for_each(|(to, x)| *to = *x);
        Ok(())
    }
    if buffer.memory_info().is_cpu_accessible() {
        crate::with_array!(t, a => go(buffer, a))
    } else {
        owned(t)?.copy_into(buffer)
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
