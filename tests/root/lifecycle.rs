//! The commands of a container's life, their outputs and exit codes.
use coracle_tests::*;

cases![exit_codes];

fn exit_codes(t: &T) {
    for code in ["0", "1", "42", "255"] {
        let mut bundle = Bundle::new(t, &["exit", code]);
        let container = Container::new(t, &mut bundle);
        let done = container.run().expect(code.parse().unwrap());
        assert_eq!((done.out.as_str(), done.err.as_str(), done.log.as_str()), ("", "", ""), "{done}");
        container.gone();
    }
}
