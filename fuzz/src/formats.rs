//! Bytes that the two halves pass to each other: never a panic, and what is read is what was written.

use coracle_init::program::{FIELDS, HEADER_LEN, Header, Program, STEP_LEN, Step, Value};
use coracle_init::step::hook::HookLayout;
use coracle_init::wire::{LEN, Message};

/// A message of the report channel.
pub fn wire(data: &[u8]) {
    let Ok(message) = Message::decode(data) else { return };
    assert_eq!(data.len(), LEN);
    let again = Message::decode(&message.encode()).expect("what was written can be read");
    assert_eq!(message, again);
}

/// A message from a bus: the bytes as they are, and once more with a head that fits, so that fields and body are reached.
pub fn dbus(data: &[u8]) {
    use coracle::cgroup::systemd::wire::{MAX, decode, total_length};
    let look = |bytes: &[u8]| {
        let Some(message) = decode(bytes) else { return };
        assert_eq!(total_length(bytes), Some(bytes.len()));
        assert!(bytes.len() <= MAX && message.arguments.len() <= 255);
        let texts = message.arguments.iter().chain([&message.member, &message.error]);
        assert!(texts.map(String::len).sum::<usize>() <= 20 * bytes.len(), "nothing is made up");
    };
    look(data);
    let Some(room) = data.len().checked_sub(16) else { return };
    let mut message = data.to_vec();
    let fields = room.min(usize::from(data[12]));
    let body = room - fields.next_multiple_of(8).min(room);
    let number = |n: usize| u32::try_from(n).expect("inputs are small").to_le_bytes();
    message[..4].copy_from_slice(&[b'l', data[1] % 5, 0, 1]);
    message[4..8].copy_from_slice(&number(body));
    message[12..16].copy_from_slice(&number(fields));
    look(&message);
}

/// An arena: the bytes as they are, and once more with a header that fits, so that steps are reached.
pub fn program(data: &[u8]) {
    walk(data);
    let Some(room) = data.len().checked_sub(HEADER_LEN) else { return };
    let mut arena = data.to_vec();
    // Half of the bytes are steps.
    let steps = room / 2 / STEP_LEN;
    let number = |n: usize| u32::try_from(n).expect("inputs are small");
    let header = Header {
        total: number(arena.len()),
        steps: number(steps),
        slots: 8,
        words: 64,
        steps_at: number(arena.len() - steps * STEP_LEN),
    };
    arena[..HEADER_LEN].copy_from_slice(&header.encode());
    // Operations are small numbers: let the bytes choose among them.
    for step in 0..steps {
        let at = arena.len() - (steps - step) * STEP_LEN;
        let op = u32::from(arena[at]) % 100;
        arena[at..at + 4].copy_from_slice(&op.to_ne_bytes());
    }
    walk(&arena);
}

/// Reads everything that an arena says, as the walker would.
fn walk(bytes: &[u8]) {
    let Ok(program) = Program::new(bytes) else { return };
    for index in 0..program.len().min(4096) {
        let Ok((_, step)) = program.step(index) else { continue };
        let (op, words) = step.encode();
        assert_eq!(Step::decode(op, &words), Ok(step), "a step is written as it was read");
        assert_eq!(words.len(), FIELDS);
        step.fields(&mut |name, value| look(&program, name, value));
    }
    assert!(program.step(program.len()).is_err(), "there is no step behind the last");
}

fn look(program: &Program<'_>, name: &str, value: Value) {
    match value {
        Value::Str(s) => {
            if let (Ok(text), Ok(cstr)) = (program.str(s), program.cstr(s)) {
                assert!(cstr.to_bytes().len() <= text.len());
            }
        }
        Value::List(list) => {
            for index in 0..list.count.min(1024) {
                if let Ok(item) = program.item(list, index) {
                    let _ = program.cstr(item);
                }
            }
            assert!(program.item(list, list.count).is_err(), "there is no item behind the last");
        }
        Value::Bytes(bytes) => {
            let raw = program.raw(bytes);
            if let Some(Ok(hook)) = raw.ok().filter(|_| name == "hook").map(HookLayout::decode) {
                assert_eq!(HookLayout::decode(&hook.encode()), Ok(hook));
            }
        }
        _ => {}
    }
}
