//! The kernel's verifier accepts every program of the object.

use aya::programs::Program;

#[test]
fn accepts_every_program() {
    let mut object = envnet::kernel::sk_buff::loader()
        .expect("a kernel with BTF")
        .load(envnet::EBPF_OBJECT)
        .expect("cannot make the maps: these tests need root and a kernel with BPF");
    for (name, program) in object.programs_mut() {
        let loaded = match program {
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            _ => panic!("{name} is of a type that nobody attaches"),
        };
        loaded.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let info = program.info().expect("a loaded program");
        println!(
            "{name}: {} instructions verified, {} bytes, {} bytes of machine code",
            info.verified_instruction_count().unwrap_or_default(),
            info.size_translated().unwrap_or_default(),
            info.size_jitted()
        );
    }
}
