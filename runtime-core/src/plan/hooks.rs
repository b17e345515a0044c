//! Hooks that init runs: their arguments, environment and the state that they read.
//!
//! Must not: run anything. Tests: golden plans; `tests` package, hooks.

use super::script::Script;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::spec::OCI_VERSION;
use crate::validate::{HookPoint, ValidSpec};
use coracle_init::program::{Slot, Step, Str};
use coracle_init::step::hook::HookLayout;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The container's state (runtime.md, "State") as text before and after the pid's digits.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`] when a path is not UTF-8.
pub(crate) fn state_text(
    id: &str,
    status: &str,
    bundle: &Path,
    annotations: &BTreeMap<String, String>,
) -> Result<(String, String)> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Tail<'a> {
        bundle: &'a Path,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        annotations: &'a BTreeMap<String, String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Head<'a> {
        oci_version: &'a str,
        id: &'a str,
        status: &'a str,
    }
    let broken = |e: serde_json::Error| {
        Error::new(ErrorKind::InvalidSpec, "write the state for hooks").with_source(e).in_phase(Phase::Hooks)
    };
    let head = serde_json::to_string(&Head { oci_version: OCI_VERSION, id, status }).map_err(broken)?;
    let tail = serde_json::to_string(&Tail { bundle, annotations }).map_err(broken)?;
    let head = head.strip_suffix('}').unwrap_or(&head);
    let tail = tail.strip_prefix('{').unwrap_or(&tail);
    Ok((format!("{head},\"pid\":"), format!(",{tail}")))
}

/// The container's state as hooks get it, but for the pid.
pub(crate) struct StateText<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    pub(crate) valid: &'a ValidSpec,
}

/// Plans the hooks of one point that run inside.
///
/// # Errors
/// When the script is full or a string contains NUL.
pub(crate) fn plan_inside(
    script: &mut Script,
    state: &StateText<'_>,
    point: HookPoint,
    output: Option<Slot>,
    cwd: &str,
) -> Result<()> {
    let Some(output) = output else { return Ok(()) };
    let status = if point == HookPoint::StartContainer { "created" } else { "creating" };
    let mut texts: Option<(Str, Str)> = None;
    for hook in state.valid.hooks.iter().filter(|h| h.point == point) {
        let (state_head, state_tail) = match texts {
            Some(both) => both,
            None => {
                let (head, tail) = state_text(state.id, status, state.bundle, &state.valid.spec.annotations)?;
                let both = (script.str(&head)?, script.str(&tail)?);
                texts = Some(both);
                both
            }
        };
        // startContainer hooks run inside, where the container's environment is theirs; createContainer hooks have the host's rights and
        // get nothing of it.
        let env = match (&hook.env, point) {
            (Some(env), _) => script.vector(env)?,
            (None, HookPoint::StartContainer) => script.vector(&state.valid.process.env)?,
            (None, _) => script.vector::<&str>([])?,
        };
        let argv = script.vector(&hook.args)?;
        let layout = HookLayout {
            path: script.str(&hook.path.to_string_lossy())?,
            argv,
            env,
            cwd: script.str(cwd)?,
            state_head,
            state_tail,
            timeout_ms: hook.timeout.map_or(0, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            stdout: output,
            stderr: output,
        };
        let bytes = script.arena.raw(&layout.encode())?;
        let index = u32::try_from(hook.index).unwrap_or(u32::MAX);
        let pointer = format!("/hooks/{}/{}", point.name(), hook.index);
        script.step(pointer, Phase::Hooks, Step::Hook { hook: bytes, index });
    }
    Ok(())
}
