#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| coracle_fuzz::spec_load(data));
