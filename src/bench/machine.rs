//! Clocks and memory of this process, as far as the system tells.

use std::time::Instant;

/// The two clocks of a measurement, in seconds from some start.
pub trait Clock {
    /// Time that passed.
    fn wall(&self) -> f64;
    /// Time that processors spent on this process, in all of its threads; `None` where the system does not tell.
    fn processor(&self) -> Option<f64>;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine(Instant);

impl Machine {
    /// Starts the clocks.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Machine {
    fn wall(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    #[cfg(unix)]
    fn processor(&self) -> Option<f64> {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9)
    }

    #[cfg(not(unix))]
    fn processor(&self) -> Option<f64> {
        None
    }
}

/// Resident memory of this process, in bytes; `None` where the system does not tell (anywhere but on Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// The most so far.
    pub peak: u64,
}

impl Memory {
    /// Read from `/proc/self/status`.
    pub fn of_this_process() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self { now: field("VmRSS")?, peak: field("VmHWM")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status_of_a_process() {
        let status = "Name:\tvit\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t1\n";
        assert_eq!(Memory::parse(status), Some(Memory { now: 1 << 20, peak: 2 << 20 }));
        assert_eq!(Memory::parse("VmRSS:\t1024 kB\n"), None);
        assert_eq!(Memory::parse("VmHWM:\tmuch\nVmRSS:\t1 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_its_clocks_advance() {
        let m = Memory::of_this_process().expect("Linux has /proc");
        assert!(m.now > 0 && m.peak >= m.now);
        let clock = Machine::start();
        let (wall, processor) = (clock.wall(), clock.processor().expect("Linux has the clock"));
        let mut x = 0u64;
        while clock.processor().expect("as before") <= processor {
            x = std::hint::black_box(x + 1);
        }
        assert!(clock.wall() > wall);
    }
}
