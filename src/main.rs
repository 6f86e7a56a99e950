//! The `cairn` binary: hands the command line over to [`cairn::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    cairn::server::tune_allocator();
    cairn::cli::main()
}
