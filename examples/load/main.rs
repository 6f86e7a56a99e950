//! The load program: what the server costs, as ratios to a bare tokio-rustls relay of the same
//! bytes (or handshake, or write+fdatasync) that is measured in the same run.
//!
//! `cargo run --release --example load -- SCENARIO…` with `login`, `chat`, `idle`, `offline`,
//! `restart` or `all`. Client and server are processes of their own; what counts is the server's
//! CPU time and memory as the kernel tells them. Every delivery is counted: a run that loses one
//! fails.

#![allow(clippy::print_stdout, reason = "the figures are its output")]

mod client;
mod measure;
mod relay;
mod scenarios;
mod scram;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) == Some("relay") {
        relay::run();
        return ExitCode::SUCCESS;
    }
    if arguments.is_empty() || arguments.iter().any(|name| name == "all") {
        arguments = ["login", "chat", "idle", "offline", "restart"]
            .map(String::from)
            .to_vec();
    }
    measure::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    for name in &arguments {
        let outcome = runtime.block_on(async {
            match name.as_str() {
                "login" => scenarios::login().await,
                "chat" => scenarios::chat().await,
                "idle" => scenarios::idle().await,
                "offline" => scenarios::offline().await,
                "restart" => scenarios::restart().await,
                other => Err(format!("{other}: no such scenario").into()),
            }
        });
        if let Err(error) = outcome {
            println!("{name}: failed: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
