//! The coverage-guided fuzzer: libFuzzer mutates packets towards code it has not reached yet, in the pure translation and
//! in the model alike, and both are compared. `cargo xtask fuzz --pure` builds it with the instrumentation that needs.

#![no_main]

use envnet_fuzz::{Case, corpus, generate, pure, worlds::HOSTS};
use envnet_model::Direction;
use fastrand::Rng;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

// An input is a byte that says which world and direction, and a frame.
fuzz_target!(|input: &[u8]| {
    let Some((&which, frame)) = input.split_first() else {
        return;
    };
    let direction = if which & 1 == 0 { Direction::In } else { Direction::Out };
    let world = HOSTS[usize::from(which >> 1) % HOSTS.len()].world();
    if let Some(difference) = pure::check(world, direction, frame) {
        let case = Case {
            kind: "coverage",
            direction,
            frame: frame.to_vec(),
        };
        panic!("{difference}\n  {}", corpus::line(world, &case));
    }
});

// Now and then a packet that the generator makes, from which to go on: noise does not become a packet by chance.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut rng = Rng::with_seed(u64::from(seed));
    if rng.u8(..8) != 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let at = rng.u8(..u8::try_from(HOSTS.len()).unwrap_or(1));
    let case = generate::case(&mut rng, HOSTS[usize::from(at)].world());
    let length = case.frame.len().min(max_size.saturating_sub(1));
    data[0] = at << 1 | u8::from(case.direction == Direction::Out);
    data[1..=length].copy_from_slice(&case.frame[..length]);
    length + 1
});
