//! The `cairn` binary: the machine itself where it is PID 1, else the command line of
//! [`cairn::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    cairn::server::tune_allocator();
    if std::process::id() == 1 && cairn::machine::is_the_machine() {
        cairn::machine::init::main();
    }
    cairn::cli::main()
}
