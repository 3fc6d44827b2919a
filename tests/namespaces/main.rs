//! End to end: the real command, the real data path, guests made of namespaces. Needs root.
//!
//! Every test runs in a laboratory of its own and ends with the same questions (see [`envnet_lab::fixture`]): did an internal address
//! leave the uplink, is the host as it was, is anything left?

mod address_plans;
mod alias;
mod broadcast;
mod counters;
mod damaged_maps;
mod deaf;
mod errors;
mod floating;
mod foreign_ports;
mod foreign_programs;
mod fragments;
mod host;
mod hostile;
mod isolation;
mod jumbo;
mod laboratory;
mod learning;
mod limits;
mod log;
mod neighbours;
mod note;
mod offloads;
mod paths;
mod raw_frames;
mod reach;
mod refusals;
mod removed;
mod shortcut;
mod spoofing;
mod tap_fuzz;
mod tunnels;
mod within;

use envnet_lab::{fixture, traffic};
