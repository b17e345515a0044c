//! The entry to the library: where containers are kept, and the two phases of making one.
//!
//! Must not: change the calling process. Tests: `tests/embed`; at the end of this file for what needs no privileges.

use crate::bundle::Bundle;
use crate::container::Container;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::{self, Facts, SecurityModules};
use crate::id::ContainerId;
use crate::launch;
use crate::launch::network::Making;
use crate::observe::{Observer, Watch};
use crate::plan::create::{self, ContainerPlan};
use crate::plan::show;
use crate::state::{Record, Store};
use crate::stdio::{Io, Stdio};
use crate::sys::regex::Regex;
use crate::validate::annotations::RECEIVER;
use crate::validate::{ValidSpec, validate, violations_error};
use std::borrow::Cow;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cgroups {
    /// What fits this host.
    #[default]
    Auto,
    /// The runtime itself, in the cgroup file systems.
    Fs,
    /// systemd, as a scope unit: the machine's, or the calling user's where [`RuntimeBuilder::bus`] says so.
    Systemd,
    /// Nobody: containers stay in the caller's cgroup, and limits are refused.
    Disabled,
}

/// The record of this version of the library.
pub(crate) type ContainerRecord = Record;

/// A place where containers are kept, and how they are made. Cheap to clone; changes nothing by itself.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    root: PathBuf,
    cgroups: Cgroups,
    bus: Option<PathBuf>,
    observer: Option<Arc<dyn Observer>>,
    own_process: bool,
    hook_environment: HookEnvironment,
    facts: OnceLock<Facts>,
}

/// What hooks without an environment of their own get.
enum HookEnvironment {
    Given(Vec<String>),
    Asked(fn() -> Vec<String>),
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("root", &self.0.root).field("cgroups", &self.0.cgroups).finish()
    }
}

/// Settings of a [`Runtime`].
#[must_use]
pub struct RuntimeBuilder(Inner);

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder").field("root", &self.0.root).finish()
    }
}

impl RuntimeBuilder {
    /// The state directory; absolute. Default `/run/coracle`.
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.0.root = root.into();
        self
    }

    /// Who makes cgroups.
    pub fn cgroups(mut self, cgroups: Cgroups) -> Self {
        self.0.cgroups = cgroups;
        self
    }

    /// The socket of the message bus on which systemd is asked, with [`Cgroups::Systemd`]. Default: that of the machine.
    pub fn bus(mut self, socket: impl Into<PathBuf>) -> Self {
        self.0.bus = Some(socket.into());
        self
    }

    /// Who is told what was done and how long it took.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.0.observer = Some(observer);
        self
    }

    /// The environment that runtime-side hooks without one of their own get, less what changes how programs are loaded. The library
    /// never reads the caller's.
    pub fn hook_environment(mut self, environment: impl IntoIterator<Item = String>) -> Self {
        self.0.hook_environment = HookEnvironment::Given(environment.into_iter().collect());
        self
    }

    /// The same, asked for before each such hook is run: most commands run none.
    pub fn hook_environment_from(mut self, environment: fn() -> Vec<String>) -> Self {
        self.0.hook_environment = HookEnvironment::Asked(environment);
        self
    }

    /// The calling process belongs to the runtime and ends soon: its memory, with the variables of the program, may be kept out of the
    /// child and of those that come after it (one by a `fork(2)` of its own would not have its stack), and [`build`](Self::build) sets `SIGCHLD` to its
    /// default. For the binary.
    pub fn own_process(mut self, own: bool) -> Self {
        self.0.own_process = own;
        self
    }

    /// Plans with these facts instead of asking the machine.
    pub fn facts(self, facts: Facts) -> Self {
        // A new cell: nothing can have been set before.
        let _ = self.0.facts.set(facts);
        self
    }

    /// The runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the root is not absolute.
    pub fn build(self) -> Result<Runtime> {
        if !self.0.root.is_absolute() {
            return Err(Error::new(ErrorKind::Usage, "the state directory must be an absolute path")
                .with_path(&self.0.root)
                .with_code("root-relative"));
        }
        if self.0.own_process {
            crate::sys::proc::default_child_signal();
        }
        Ok(Runtime(Arc::new(self.0)))
    }
}

impl Runtime {
    /// Settings with their defaults.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder(Inner {
            root: PathBuf::from("/run/coracle"),
            cgroups: Cgroups::Auto,
            bus: None,
            observer: None,
            own_process: false,
            hook_environment: HookEnvironment::Given(Vec::new()),
            facts: OnceLock::new(),
        })
    }

    /// The state directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// What is known of this machine; asked once.
    ///
    /// # Errors
    /// Those of [`Facts::probe`].
    pub fn facts(&self) -> Result<&Facts> {
        if let Some(facts) = self.0.facts.get() {
            return Ok(facts);
        }
        let facts = Facts::probe()?;
        Ok(self.0.facts.get_or_init(|| facts))
    }

    /// What this process can pass on: the one fact that an exec needs.
    pub(crate) fn capabilities(&self) -> Result<u64> {
        self.0.facts.get().map_or_else(host::permitted, |facts| Ok(facts.capabilities))
    }

    /// Enabled security modules, when a label is `asked` for; else none are looked for.
    pub(crate) fn security_modules(&self, asked: bool) -> Result<SecurityModules> {
        match self.0.facts.get() {
            _ if !asked => Ok(SecurityModules::default()),
            Some(facts) => facts.security_modules(),
            None => SecurityModules::probe(),
        }
    }

    /// Begins a container. Nothing happens before [`Create::plan`] and the plan's own methods.
    pub fn create(&self, id: &ContainerId, bundle: Bundle) -> Create {
        Create {
            runtime: self.clone(),
            id: id.clone(),
            bundle,
            stdio: Stdio::Inherit,
            choices: create::Choices::default(),
            environment: Vec::new(),
            receiver: None,
            network: None,
        }
    }

    /// An existing container.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::State`] when its record cannot be trusted.
    pub fn open(&self, id: &ContainerId) -> Result<Container> {
        let store = Store::open(&self.0.root, false)?;
        Container::open(self, store.find(id)?)
    }

    /// Removes whatever is left of a container whose record cannot be read or was never finished; the same as
    /// [`Container::delete`] by force where it can.
    ///
    /// # Errors
    /// As [`Container::delete`].
    pub fn purge(&self, id: &ContainerId) -> Result<()> {
        let store = Store::open(&self.0.root, false)?;
        Container::purge(self, store.find(id)?)
    }

    /// All containers, sorted by name. One that vanishes meanwhile is left out; one that cannot be read is an error of its own.
    ///
    /// # Errors
    /// When the state directory cannot be read.
    pub fn list(&self) -> Result<Vec<(ContainerId, Result<Container>)>> {
        let store = Store::open(&self.0.root, false)?;
        let mut out = Vec::new();
        for id in store.list()? {
            match store.find(&id).and_then(|dir| Container::open(self, dir)) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                found => out.push((id, found)),
            }
        }
        Ok(out)
    }

    /// The names of all containers in which a POSIX extended regular expression is found (regex(7)), sorted.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when it is none; when the state directory cannot be read.
    pub fn matching(&self, expression: &str) -> Result<Vec<ContainerId>> {
        let regex = Regex::new(expression).map_err(|reason| {
            Error::new(ErrorKind::Usage, format!("invalid regular expression {expression:?}: {reason}"))
                .with_code("regex")
        })?;
        let ids = Store::open(&self.0.root, false)?.list()?;
        Ok(ids.into_iter().filter(|id| regex.is_match(id.as_str())).collect())
    }

    pub(crate) fn watch(&self) -> Watch<'_> {
        Watch(self.0.observer.as_deref())
    }

    pub(crate) fn hook_environment(&self) -> Cow<'_, [String]> {
        match &self.0.hook_environment {
            HookEnvironment::Given(environment) => Cow::Borrowed(environment),
            HookEnvironment::Asked(ask) => Cow::Owned(ask()),
        }
    }

    pub(crate) fn own_process(&self) -> bool {
        self.0.own_process
    }
}

/// A container that is to be made.
#[derive(Debug)]
#[must_use]
pub struct Create {
    runtime: Runtime,
    id: ContainerId,
    bundle: Bundle,
    stdio: Stdio,
    choices: create::Choices,
    environment: Vec<String>,
    receiver: Option<String>,
    network: Option<Making>,
}

impl Create {
    /// Where the standard streams come from. Default: the caller's.
    pub fn stdio(mut self, stdio: Stdio) -> Self {
        self.stdio = stdio;
        self
    }

    /// Hands the caller's descriptors `3..3+count` on to the container. Each must be open without close-on-exec by then, or the
    /// start is refused: it could be a file of the library.
    pub fn preserve_fds(mut self, count: u32) -> Self {
        self.choices.preserve = count;
        self
    }

    /// Changes the root without pivot_root(2), for root filesystems on an initramfs. The host's tree stays below.
    pub fn no_pivot(mut self, no_pivot: bool) -> Self {
        self.choices.no_pivot = no_pivot;
        self
    }

    /// Starts the program at once instead of waiting at the gate: `run` of the command line.
    pub fn at_once(mut self, at_once: bool) -> Self {
        self.choices.at_once = at_once;
        self
    }

    /// Keeps the caller's session keyring.
    pub fn no_new_keyring(mut self, keep: bool) -> Self {
        self.choices.no_new_keyring = keep;
        self
    }

    /// Variables (`NAME=value`) for the container's own process, which win over those of its configuration. Programs that are added
    /// later do not get them.
    pub fn environment(mut self, environment: impl IntoIterator<Item = String>) -> Self {
        self.environment.extend(environment);
        self
    }

    /// Gives the container a socket for sd_notify(3): at `/run/notify/notify.sock` inside, with `NOTIFY_SOCKET` in the environment of its
    /// own process. Its other end is [`Created::notify`] with [`Create::at_once`], else [`Container::notify_socket`].
    pub fn notify_socket(mut self, notify: bool) -> Self {
        self.choices.notify = notify;
        self
    }

    /// The socket that gets the listener of the container's filter, where neither that nor an annotation names one.
    pub fn seccomp_receiver(mut self, path: Option<String>) -> Self {
        self.receiver = path;
        self
    }

    /// Begins, beside the planning, what takes longest: a thread makes the network namespace. For a caller that is going to create the
    /// container, in a process of its own ([`RuntimeBuilder::own_process`]); in others nothing happens.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn ahead(mut self) -> Result<Self> {
        if self.runtime.own_process() {
            self.network = Making::begin_for(self.bundle.spec())?;
        }
        Ok(self)
    }

    /// Decides everything. Nothing is changed on the machine; the result can be printed.
    ///
    /// # Errors
    /// Every violation of the specification at once ([`Error::more`]); what this host or version cannot do.
    pub fn plan(mut self) -> Result<CreatePlan> {
        let watch = self.runtime.watch();
        let (directory, mut spec) = self.bundle.into_parts();
        if self.choices.notify {
            spec.mounts.push(launch::notify::mount(&self.runtime.0.root.join(self.id.as_str())));
            self.environment.push(launch::notify::variable());
        }
        if let Some(path) = self.receiver.take().filter(|_| !spec.annotations.contains_key(RECEIVER)) {
            if let Some(filter) = spec.linux.as_mut().and_then(|linux| linux.seccomp.as_mut()) {
                filter.listener_path.get_or_insert(path);
            }
        }
        let mut valid: ValidSpec = watch.step(Phase::Validate, "validate", || {
            validate(*spec).map_err(|violations| {
                violations_error(violations)
                    .unwrap_or_else(|| Error::new(ErrorKind::InvalidSpec, "the configuration is not valid"))
            })
        })?;
        valid.add_environment(self.environment)?;
        self.choices.streams = self.stdio.is_three();
        self.choices.own_process = self.runtime.own_process();
        self.choices.no_cgroup = self.runtime.0.cgroups == Cgroups::Disabled;
        self.choices.systemd = (self.runtime.0.cgroups == Cgroups::Systemd)
            .then(|| self.runtime.0.bus.clone().unwrap_or_else(|| crate::cgroup::systemd::SYSTEM_BUS.into()));
        self.stdio.check(valid.process.terminal)?;
        let facts = self.runtime.facts()?;
        let plan = watch.step(Phase::Plan, "plan", || {
            create::plan(self.id.as_str(), &directory, valid, facts, &self.choices).map(Box::new)
        })?;
        Ok(CreatePlan {
            id: self.id,
            stdio: self.stdio,
            choices: self.choices,
            rootless: facts.rootless(),
            network: self.network.filter(|_| plan.network.is_some()),
            plan,
            runtime: self.runtime.clone(),
        })
    }
}

/// Everything that will be done to create a container, decided and not begun. `Display` shows it.
#[derive(Debug)]
pub struct CreatePlan {
    runtime: Runtime,
    id: ContainerId,
    stdio: Stdio,
    choices: create::Choices,
    rootless: bool,
    network: Option<Making>,
    /// Boxed: it is large, and every move of it would stay on the stack of the waiting child.
    plan: Box<ContainerPlan>,
}

/// A container that was created, and the caller's ends of its streams.
#[derive(Debug)]
#[non_exhaustive]
pub struct Created {
    /// The container.
    pub container: Container,
    /// The caller's ends.
    pub io: Io,
    /// What receives the notifications of a program that was started at once with [`Create::notify_socket`]; reading does not block.
    pub notify: Option<OwnedFd>,
}

impl fmt::Display for CreatePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "container {}", self.id)?;
        for line in self.plan.cgroup.to_string().lines() {
            writeln!(f, "cgroup  {line}")?;
        }
        if let Some(class) = self.plan.valid.spec.linux.as_ref().and_then(|linux| linux.intel_rdt.as_ref()) {
            writeln!(f, "class   {}", crate::rdt::shown(&self.plan.id, class))?;
        }
        show::script(f, &self.plan.script)?;
        show::hooks(f, &self.plan.valid.hooks)
    }
}

impl CreatePlan {
    /// Remarks on the configuration that stop nothing.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        self.plan.valid.warnings.iter().map(|w| format!("{}: {}", w.pointer, w.message))
    }

    /// Creates the container: one clone, after which its init waits at the gate for [`Container::start`], or runs the program when the
    /// container was to be started at once. Blocks until then; hooks without a timeout may take as long as they like.
    ///
    /// # Errors
    /// The step that failed, in words, with its pointer. Nothing of the container is left.
    pub fn create(self) -> Result<Created> {
        let Self { runtime, id, stdio, choices, rootless, network, plan } = self;
        launch::create::create(&runtime, &id, plan, stdio, choices, rootless, network)
    }
}
