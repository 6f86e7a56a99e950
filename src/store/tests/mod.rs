//! Tests of the log engine against a model.

#![allow(
    clippy::print_stdout,
    reason = "a test that fails says with which seed"
)]

mod basic;
mod compaction;
mod crash;
mod damage;
mod erasure;
mod faults;
mod formats;
mod golden;
mod harness;
mod lost;
mod model;
mod newer;
mod pace;
mod reads;
mod reopen;
mod space;
