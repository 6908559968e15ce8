//! Reads from ONNX Runtime's log where it places the nodes of a model.
//!
//! While it makes a session, the runtime logs for each provider the number of its nodes and then one line for each
//! (`VerifyEachNodeIsAssignedToAnEp` in `session_state.cc`, the same words from 1.19 to 1.32), and which nodes it leaves
//! to the CPU by choice (`GetCpuPreferredNodes` in `fallback_cpu_capability.cc`). Releases of about 1.20 and before write
//! the latter to the log of the process rather than of the session: there such nodes count as ones that the provider
//! cannot run. The C interface offers nothing older than 1.23 for this, and a profile exists only after a run.

use crate::runtime::{Placed, Placement, Provider};
use ::ort::logging::LoggerFunction;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Listens to the log of a session in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Listener(Arc<Mutex<Log>>);

/// What the log has said so far.
#[derive(Debug, Default)]
struct Log {
    placement: Placement,
    /// Nodes left to the CPU by choice, by name; names may be empty or repeated.
    chosen: HashMap<String, usize>,
    /// Whether the last line was of the list of a provider's nodes.
    listing: bool,
}

impl Listener {
    /// What the session calls for each message.
    pub(super) fn logger(&self) -> LoggerFunction {
        let log = Arc::clone(&self.0);
        Arc::new(move |_, _, _, _, message| log.lock().unwrap_or_else(PoisonError::into_inner).read(message))
    }

    /// The placement, or `None` when the log did not state it.
    pub(super) fn placement(self) -> Option<Placement> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!log.placement.placed.is_empty()).then(|| log.placement.clone())
    }
}

impl Log {
    fn read(&mut self, message: &str) {
        const CHOSEN: &str = "Force fallback to CPU execution for node: ";
        if let Some((_, rest)) = message.split_once(CHOSEN)
            && let Some((name, _)) = rest.split_once(" because ")
        {
            *self.chosen.entry(name.to_owned()).or_default() += 1;
        } else if let Some((provider, nodes)) = heading(message) {
            self.placement.placed.push(Placed { provider, nodes, ..Placed::default() });
            self.listing = true;
        } else if let Some((op, name)) = node(message).filter(|_| self.listing)
            && let Some(last) = self.placement.placed.last_mut()
        {
            *last.ops.entry(op.to_owned()).or_default() += 1;
            if last.provider == Provider::Cpu.name()
                && let Some(left) = self.chosen.get_mut(name).filter(|n| **n > 0)
            {
                *left -= 1;
                *last.chosen.entry(op.to_owned()).or_default() += 1;
            }
        } else {
            self.listing = false;
        }
    }
}

/// Provider and count of ` Node(s) placed on [CPUExecutionProvider]. Number of nodes: 3`.
fn heading(message: &str) -> Option<(String, usize)> {
    let rest = message.trim().strip_prefix("Node(s)").or_else(|| message.trim().strip_prefix("All nodes"))?;
    let (name, count) = rest.strip_prefix(" placed on [")?.split_once("]. Number of nodes: ")?;
    let short = match name {
        "CPUExecutionProvider" => Provider::Cpu.name(),
        "CUDAExecutionProvider" => Provider::Cuda.name(),
        "TensorrtExecutionProvider" => Provider::TensorRt.name(),
        other => other,
    };
    Some((short.to_owned(), count.parse().ok()?))
}

/// Op type and name of `  NonZero (nz)`.
fn node(message: &str) -> Option<(&str, &str)> {
    message.strip_prefix("  ")?.trim().strip_suffix(')')?.split_once(" (")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Option<Placement> {
        let listener = Listener::default();
        let logger = listener.logger();
        for line in lines.lines() {
            // `[V:onnxruntime:, session_state.cc:1313 VerifyEachNodeIsAssignedToAnEp]  Node(s) placed …`
            let message = line.split_once("] ").expect("a recorded line").1;
            logger(::ort::logging::LogLevel::Verbose, "onnxruntime", "", "session_state.cc", message);
        }
        listener.placement()
    }

    /// Recorded: 1.24.1 with OpenVINO; 1.19.0 differs only in the numbers of lines of source.
    const TWO: &str = "\
[I:onnxruntime:, graph_transformer.cc:15 Apply] GraphTransformer MemcpyTransformer modified: 0 with status: OK
[V:onnxruntime:, session_state.cc:1307 VerifyEachNodeIsAssignedToAnEp] Node placements
[V:onnxruntime:, session_state.cc:1313 VerifyEachNodeIsAssignedToAnEp]  Node(s) placed on [OpenVINOExecutionProvider]. Number of nodes: 1
[V:onnxruntime:, session_state.cc:1315 VerifyEachNodeIsAssignedToAnEp]   OpenVINO-EP-subgraph_1 (OpenVINOExecutionProvider_OpenVINO-EP-subgraph_1_0)
[V:onnxruntime:, session_state.cc:1313 VerifyEachNodeIsAssignedToAnEp]  Node(s) placed on [CPUExecutionProvider]. Number of nodes: 3
[V:onnxruntime:, session_state.cc:1315 VerifyEachNodeIsAssignedToAnEp]   NonZero (nz (a))
[V:onnxruntime:, session_state.cc:1315 VerifyEachNodeIsAssignedToAnEp]   Det (det)
[V:onnxruntime:, session_state.cc:1315 VerifyEachNodeIsAssignedToAnEp]   Einsum ()
[W:onnxruntime:, session_state.cc:1327 VerifyEachNodeIsAssignedToAnEp] Some nodes were not assigned to the preferred execution providers which may or may not have an negative impact on performance. e.g. ORT explicitly assigns shape related ops to CPU to improve perf.
[V:onnxruntime:, session_state.cc:126 CreateGraphInfo] SaveMLValueNameIndexMapping";

    #[test]
    fn nodes_are_counted_by_provider_and_op() {
        let placement = read(TWO).expect("it is stated");
        assert_eq!(
            placement.to_string(),
            "1 nodes on OpenVINOExecutionProvider (1 OpenVINO-EP-subgraph_1); 3 on cpu (1 Det, 1 Einsum, 1 NonZero)"
        );
        let (n, ops) = placement.only_on_cpu();
        assert_eq!((n, crate::runtime::placement::counts(&ops).as_str()), (3, "1 Det, 1 Einsum, 1 NonZero"));
    }

    #[test]
    fn one_provider_for_all_gives_the_total() {
        // Recorded: 1.32.0.
        let all = "[V:onnxruntime:, session_state.cc:1601 VerifyEachNodeIsAssignedToAnEp]  All nodes placed on [CPUExecutionProvider]. Number of nodes: 6";
        let placement = read(all).expect("it is stated");
        assert_eq!((placement.to_string().as_str(), placement.nodes()), ("all 6 nodes on cpu", 6));
        assert_eq!(placement.only_on_cpu().0, 6);
        let cuda = read(&all.replace("CPUExec", "CUDAExec")).expect("it is stated");
        assert_eq!((cuda.to_string().as_str(), cuda.only_on_cpu().0), ("all 6 nodes on cuda", 0));
    }

    #[test]
    fn nodes_left_to_the_cpu_by_choice_are_told_apart() {
        let choice = "[I:onnxruntime:, fallback_cpu_capability.cc:200 GetCpuPreferredNodes] ORT optimization- Force fallback to CPU execution for node: {} because the CPU execution path is deemed faster than overhead involved with execution on other EPs capable of executing this node\n";
        let log = format!("{}{}{TWO}", choice.replace("{}", "det"), choice.replace("{}", ""));
        let placement = read(&log).expect("it is stated");
        assert!(
            placement
                .to_string()
                .ends_with("3 on cpu (1 Det, 1 Einsum, 1 NonZero, of which 1 Det, 1 Einsum by choice)"),
            "{placement}"
        );
        let (n, ops) = placement.only_on_cpu();
        assert_eq!((n, ops.into_keys().collect::<Vec<_>>()), (1, vec!["NonZero".to_owned()]));
    }

    #[test]
    fn a_log_without_placement_gives_none() {
        assert_eq!(read("[I:onnxruntime:, inference_session.cc:2094 Initialize]   Add (not a list of nodes)"), None);
    }
}
