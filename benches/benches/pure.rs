//! The pure half: load, validate, plan, compile. `cargo bench -p coracle-benches`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion makes the functions; a benchmark stops at a failure"
)]

use std::hint::black_box;

use coracle::spec::Spec;
use coracle::validate::validate;
use coracle::{Bundle, Runtime};
use coracle_benches::{default_config, docker_config, machine};
use coracle_seccomp::{Arch, compile, profile};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn documents(c: &mut Criterion) {
    let runtime = Runtime::builder().root("/run/coracle").facts(machine()).build().unwrap();
    for (name, config) in [("default", default_config()), ("docker", docker_config())] {
        let text = serde_json::to_vec(&config).unwrap();
        let spec = Spec::from_slice(&text).unwrap();
        c.bench_function(&format!("load/{name}"), |b| b.iter(|| Spec::from_slice(black_box(&text)).unwrap()));
        c.bench_function(&format!("validate/{name}"), |b| {
            b.iter_batched(|| spec.clone(), |spec| validate(spec).unwrap(), BatchSize::SmallInput);
        });
        // Validation and the filter's compilation are part of it.
        c.bench_function(&format!("plan/{name}"), |b| {
            let bundle = || Bundle::from_spec(spec.clone(), "/bundles/web").unwrap();
            let id = "web".parse().unwrap();
            b.iter_batched(
                bundle,
                |bundle| runtime.create(&id, bundle).plan().unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
}

fn filters(c: &mut Criterion) {
    let docker = profile::docker_default(profile::Capabilities::from_bits(0), Arch::X86_64);
    let strict = profile::strict(Arch::X86_64);
    for (name, policy) in [("docker", docker), ("strict", strict)] {
        c.bench_function(&format!("compile/{name}"), |b| {
            b.iter(|| compile(black_box(&policy), Arch::X86_64).unwrap());
        });
    }
}

criterion_group!(pure, documents, filters);
criterion_main!(pure);
