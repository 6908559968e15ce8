//! `vit-onnx completions` and `vit-onnx man`: both are made from the argument types.

use super::args::{Cli, Completions, Man};
use super::{Exit, Failure, Outcome, output};
use clap::CommandFactory;

pub(super) fn completions(a: &Completions) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(a.shell, &mut Cli::command(), "vit-onnx", &mut text);
    output::bytes_out(&text)?;
    Ok(Exit::Fine)
}

pub(super) fn man(a: &Man) -> Outcome {
    let Some(dir) = &a.dir else {
        let mut text = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut text);
        rendered.map_err(|e| Failure::new(Exit::Internal, e))?;
        output::bytes_out(&text)?;
        return Ok(Exit::Fine);
    };
    if !dir.is_dir() {
        return Err(Failure::usage(format!("there is no folder {}; create it first", dir.display())));
    }
    clap_mangen::generate_to(Cli::command(), dir).map_err(|e| Failure::bad_file(format!("{}: {e}", dir.display())))?;
    output::say(format_args!("wrote the manual pages to {}", dir.display()));
    Ok(Exit::Fine)
}
