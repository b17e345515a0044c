//! What the parent did and how long it took, for those who ask.
//!
//! Must not: cost anything when nobody asks; be called from the child. Tests: at the end of this file.

use crate::error::{Error, Phase, Result};
use std::time::{Duration, Instant};

/// One thing that the parent did.
#[derive(Debug)]
#[non_exhaustive]
pub struct StepEvent<'a> {
    /// When in the container's life.
    pub phase: Phase,
    /// What, as a few words.
    pub what: &'a str,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed, if it did.
    pub error: Option<&'a Error>,
}

/// Gets an event after each thing that the parent did. Called in the thread that works for the container, so it should be quick.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn step(&self, event: &StepEvent<'_>);
}

/// An observer, or nobody.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'a>(pub(crate) Option<&'a dyn Observer>);

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Watch(on)" } else { "Watch(off)" })
    }
}

impl Watch<'_> {
    /// Does something and tells the observer.
    pub(crate) fn step<T>(&self, phase: Phase, what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(observer) = self.0 else { return run() };
        let begin = Instant::now();
        let result = run();
        observer.step(&StepEvent { phase, what, duration: begin.elapsed(), error: result.as_ref().err() });
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Seen(Mutex<Vec<(Phase, String, bool)>>);

    impl Observer for Seen {
        fn step(&self, event: &StepEvent<'_>) {
            self.0.lock().unwrap().push((event.phase, event.what.to_owned(), event.error.is_some()));
        }
    }

    #[test]
    fn success_and_failure_are_told() {
        let seen = Seen::default();
        let watch = Watch(Some(&seen));
        assert_eq!(watch.step(Phase::Plan, "one", || Ok(1)).unwrap(), 1);
        let failed: Result<()> = watch.step(Phase::Exec, "two", || Err(Error::new(ErrorKind::Io, "x")));
        assert!(failed.is_err());
        let expected = vec![(Phase::Plan, "one".to_owned(), false), (Phase::Exec, "two".to_owned(), true)];
        assert_eq!(*seen.0.lock().unwrap(), expected);
    }
}
