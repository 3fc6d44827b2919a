//! The life cycle: environments changed while they run, taken over, damaged, killed half-way. Needs root.
//!
//! As with the namespaces, every test runs in a laboratory of its own and ends with the questions of
//! [`envnet_lab::fixture`].

mod change;
mod concurrent;
mod damage;
mod faults;
mod flood;
mod former_names;
mod live;
mod lost_pins;
mod ownership;
mod partial;
mod renamed;
mod service;
mod soak;
mod sweep;
mod upgrade;
