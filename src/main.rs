//! The `vit-onnx` command.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    vit_onnx::cli::run(vit_onnx::cli::Cli::parse())
}
