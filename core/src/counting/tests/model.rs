// SPDX-License-Identifier: Apache-2.0
//! A machine: what is on its disk, what a power cut leaves of that, and what GRUB sees of it.
//!
//! From booting real ones: a name is there after a power cut only if its folder was synced, and names come in the order in which they
//! were made; GRUB sees what was written to `grubenv` only after the file system was written out; a cut while it is written leaves the old
//! block, the new one or a torn one.

use core::cell::RefCell;
use core::fmt;
use core::hash::{Hash, Hasher};

use super::std::collections::{BTreeSet, HashMap};
use super::std::thread_local;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::bls::Entry;
use crate::counting::*;

/// How often the machine tries a deployment.
pub(super) const MOST: u32 = 2;

/// What a deployment is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that may be wrong with it")]
pub(super) struct Kind {
    pub(super) stateroot: char,
    pub(super) kernel: char,
    pub(super) healthy: bool,
    pub(super) usable: bool,
    /// It can be booted as it seems to: nothing that is looked at before is missing from one that can't.
    pub(super) pivots: bool,
    /// Its kernel panics before anything counts.
    pub(super) dies: bool,
}

/// What GRUB makes of `default=` in `grubenv`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Grub {
    Obeys,
    /// It reads another file.
    Ignores,
    /// It takes the variable away and starts the first entry.
    Clears,
    /// Its `grub.cfg` says that it doesn't read it.
    Unsteerable,
}

/// A menu and the deployments that are in it, in its order.
type Listing = (Menu, Vec<Deployment>);

/// What doesn't change about a machine.
#[derive(Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that happens to it or doesn't")]
pub(super) struct Machine {
    pub(super) kinds: Vec<Kind>,
    pub(super) grub: Grub,
    pub(super) readonly: bool,
    /// A person picks deployments by hand.
    pub(super) picked: bool,
    /// A person says of deployments that they are good, or that nothing is known of them.
    pub(super) talks: bool,
    /// GRUB has the snippet that counts starts.
    pub(super) counts: bool,
    /// Boots of the oldest one aren't to be counted, as its command line says.
    pub(super) unwanted: bool,
    ids: Vec<Id>,
    /// The menu of each order, and its deployments: made once, because a walk needs them all the time.
    menus: RefCell<HashMap<Vec<usize>, Rc<Listing>>>,
}

/// A `grubenv`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Env {
    Unset,
    Default(Rc<str>),
    Armed(Starts),
    Torn,
}

impl Env {
    fn variables(&self) -> Environment {
        match self {
            Self::Unset | Self::Torn => Environment::default(),
            Self::Default(entry) => Environment::default().with(STEERING, Some(entry)),
            Self::Armed(starts) => starts.written(&Environment::default()),
        }
    }
}

/// Names of records, and what they say. Each set of them is made once: a walk copies, compares and reads them all the time.
#[derive(Clone)]
pub(super) struct Names(Rc<Known>);

struct Known {
    number: usize,
    names: BTreeSet<String>,
    records: Records,
}

thread_local! {
    static KNOWN: RefCell<HashMap<BTreeSet<String>, Names>> = RefCell::default();
    /// What they become, by their numbers.
    static AFTER: RefCell<HashMap<usize, Vec<(Op, Names)>>> = RefCell::default();
}

impl Names {
    pub(super) fn new(names: BTreeSet<String>) -> Self {
        KNOWN.with_borrow_mut(|all| {
            if let Some(known) = all.get(&names) {
                return known.clone();
            }
            let records = Records::parse(names.iter().map(String::as_str));
            let made = Self(Rc::new(Known { number: all.len(), names: names.clone(), records }));
            all.insert(names, made.clone());
            made
        })
    }

    /// With one more.
    pub(super) fn with(&self, name: Option<String>) -> Self {
        let Some(name) = name else { return self.clone() };
        let mut names = self.0.names.clone();
        names.insert(name);
        Self::new(names)
    }

    /// With another one in the stead of one.
    pub(super) fn replaced(&self, from: &str, to: &str) -> Self {
        apply(self, [&Op::Rename(from.into(), to.into())])
    }

    pub(super) fn records(&self) -> &Records {
        &self.0.records
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}

impl Eq for Names {}

impl Hash for Names {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.number.hash(hasher);
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.names.fmt(f)
    }
}

/// A machine that is off.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct World {
    pub(super) names: Names,
    /// As Linux finds it, and as GRUB does.
    pub(super) env: Env,
    pub(super) seen: Env,
    /// The deployments that are there, in the bootloader's order.
    pub(super) order: Vec<usize>,
}

impl fmt::Display for Machine {
    /// Its deployments, the oldest first: stateroot, kernel, `+` if it gets healthy, `x` if its kernel panics, `!` if it can't be booted,
    /// `?` if it only seems so.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Kind { stateroot, kernel, healthy, usable, pivots, dies } in &self.kinds {
            let broken = match (usable, pivots) {
                (false, _) => "!",
                (_, false) => "?",
                _ => "",
            };
            let how = match (dies, healthy) {
                (true, _) => "x",
                (_, true) => "+",
                _ => "-",
            };
            write!(f, "{stateroot}{kernel}{how}{broken} ")?;
        }
        write!(f, "{:?}{}", self.grub, if self.readonly { " read-only" } else { "" })
    }
}

impl Machine {
    pub(super) fn new(kinds: &[Kind], grub: Grub, readonly: bool) -> Self {
        let id = |(kind, checksum): (&Kind, &str)| Id::new(&kind.stateroot.to_string(), &format!("{checksum}.0"));
        let ids = kinds.iter().zip(["a", "b", "c"]).map(|both| id(both).unwrap()).collect();
        Self {
            kinds: kinds.to_vec(),
            grub,
            readonly,
            picked: true,
            talks: false,
            counts: false,
            unwanted: false,
            ids,
            menus: RefCell::default(),
        }
    }

    /// The last one is of the same commit as the one before.
    pub(super) fn with_the_last_redeployed(mut self) -> Self {
        let [.., before, last] = self.ids.as_mut_slice() else { unreachable!("there are three") };
        *last = Id::new(before.stateroot(), &before.deployment().replace(".0", ".1")).unwrap();
        self
    }

    pub(super) fn id(&self, deployment: usize) -> &Id {
        &self.ids[deployment]
    }

    pub(super) fn deployment(&self, id: &Id) -> usize {
        self.ids.iter().position(|known| known == id).unwrap()
    }

    /// Whether it boots when it is tried.
    pub(super) fn boots(&self, deployment: usize) -> bool {
        self.kinds[deployment].usable && self.kinds[deployment].pivots
    }

    /// Names of entries go by their place.
    fn menu(&self, order: &[usize]) -> Rc<Listing> {
        if let Some(menu) = self.menus.borrow().get(order) {
            return menu.clone();
        }
        let make = || {
            let entries = order.iter().enumerate().map(|(place, deployment)| {
                let Kind { stateroot, kernel, .. } = self.kinds[*deployment];
                let link = format!("/ostree/boot.1/{stateroot}/{kernel}/{deployment}");
                let text = format!("title {deployment}\noptions root=x fledge.boot.tries={MOST} ostree={link}\n");
                Listed::new(&format!("ostree-{}.conf", order.len() - place), &Entry::new(text))
            });
            let menu = Menu::new(entries.collect());
            let deployments = menu.iter().zip(order).map(|(listed, deployment)| {
                let unusable = (!self.kinds[*deployment].usable).then(|| "broken".into());
                Deployment { unusable, ..listed.deployment(self.id(*deployment).clone()).unwrap() }
            });
            let deployments = deployments.collect();
            Rc::new((menu, deployments))
        };
        self.menus.borrow_mut().entry(order.to_vec()).or_insert_with(make).clone()
    }

    /// The deployment that GRUB starts by itself.
    pub(super) fn default(&self, world: &World) -> usize {
        let variables = world.seen.variables();
        self.chosen(&world.order, told(&variables).filter(|_| self.grub == Grub::Obeys))
    }

    /// What GRUB writes before it starts anything.
    pub(super) fn started(world: &World) -> World {
        let Env::Armed(starts) = &world.seen else { return world.clone() };
        let left = match starts.left {
            Left::Starts(0) => Left::FellBack,
            Left::FellBack => Left::Starts(0),
            Left::Starts(left) => Left::Starts(left - 1),
        };
        let env = Env::Armed(Starts { left, ..starts.clone() });
        World { seen: env.clone(), env, ..world.clone() }
    }

    /// Whether it panics for ever: nobody counts what GRUB starts.
    pub(super) fn is_lost(&self, world: &World) -> bool {
        !matches!(world.seen, Env::Armed(_)) && self.kinds[self.default(world)].dies
    }

    /// Whether it does, though there is a good deployment. An override wins, and goes by an entry's place: after an update it may name one
    /// that nobody has started yet.
    pub(super) fn is_helpless(&self, world: &World) -> bool {
        let known = world.names.records();
        let is_good = |deployment: &usize| known.state(self.id(*deployment)) == Some(State::Good);
        !matches!(world.env, Env::Default(_)) && self.is_lost(world) && world.order.iter().any(is_good)
    }

    /// Whether GRUB may be told to start another entry than the first: what is torn may have been that, if a mark tells of it.
    pub(super) fn is_overridden(world: &World) -> bool {
        let switched = || world.names.records().iter().any(|record| record.switched > 0);
        matches!(world.env, Env::Default(_)) || (world.env == Env::Torn && switched())
    }

    /// What is written when this deployment's system goes off.
    pub(super) fn arms(&self, world: &World, running: usize) -> Arms {
        let Facts { deployments, records, starts, .. } = self.facts(world, running);
        let obstacle = Self::is_overridden(world).then(|| "GRUB can't count".into());
        arm(&GoesOff { deployments, running: Some(self.id(running).clone()), records, starts, obstacle })
    }

    /// The deployment that GRUB starts once nothing is left.
    pub(super) fn fallback(&self, world: &World, starts: &Starts) -> Id {
        self.id(self.chosen(&world.order, Some(&starts.fallback))).clone()
    }

    fn chosen(&self, order: &[usize], told: Option<&str>) -> usize {
        let (menu, deployments) = &*self.menu(order);
        let entry = menu.choice(told).unwrap();
        self.deployment(&deployments.iter().find(|deployment| deployment.entry == entry.name).unwrap().id)
    }

    /// What Linux finds when this deployment was started.
    pub(super) fn facts(&self, world: &World, booted: usize) -> Facts {
        let variables = world.env.variables();
        let told = told(&variables).filter(|_| self.grub != Grub::Unsteerable);
        let records = world.names.records().clone();
        Facts {
            deployments: self.menu(&world.order).1.clone(),
            booted: self.id(booted).clone(),
            default: Some(self.id(self.chosen(&world.order, told)).clone()),
            records,
            tries: MOST,
            unsteerable: (self.grub == Grub::Unsteerable).then(|| "it isn't read".into()),
            unwanted: (self.unwanted && booted == 0).then(|| "the command line says fledge.boot.count=0".into()),
            other: None,
            starts: Starts::read(&variables),
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Op {
    Create(String),
    Rename(String, String),
    Remove(String),
}

fn apply<'o>(names: &Names, ops: impl IntoIterator<Item = &'o Op>) -> Names {
    ops.into_iter().fold(names.clone(), |names, op| {
        let number = names.0.number;
        let find = |all: &[(Op, Names)]| Some(all.iter().find(|(known, _)| known == op)?.1.clone());
        if let Some(after) = AFTER.with_borrow(|all| find(all.get(&number)?)) {
            return after;
        }
        let mut changed = names.0.names.clone();
        apply_one(&mut changed, op);
        let after = Names::new(changed);
        AFTER.with_borrow_mut(|all| all.entry(number).or_default().push((op.clone(), after.clone())));
        after
    })
}

fn apply_one(names: &mut BTreeSet<String>, op: &Op) {
    match op {
        Op::Create(name) => drop(names.insert(name.clone())),
        Op::Rename(from, to) => {
            if names.remove(from) {
                names.insert(to.clone());
            }
        }
        Op::Remove(name) => drop(names.remove(name)),
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    None,
    /// Power is lost in this effect or step, or before the one that would be next.
    Cut(usize),
    /// This one fails.
    Fails(usize),
}

impl Fault {
    /// All that can happen to so many of them.
    pub(super) fn all(count: usize) -> impl Iterator<Item = Self> {
        let fails = (0..count).map(Fault::Fails);
        core::iter::once(Fault::None).chain((0..=count).map(Fault::Cut)).chain(fails)
    }
}

/// The disk of a machine that is on.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    readonly: bool,
    fault: Fault,
    done: usize,
    world: World,
    pending: Vec<Op>,
    /// The machine is off: by a power cut or a reboot.
    pub(super) off: bool,
    pub(super) rebooted: bool,
    /// What it may have on its disk then.
    pub(super) left: Vec<World>,
}

impl Disk {
    pub(super) fn new(machine: &Machine, world: &World, fault: Fault) -> Self {
        // Mounting it replays the journal, and GRUB sees that, too.
        let world = World { seen: world.env.clone(), ..world.clone() };
        let (pending, left) = (Vec::new(), Vec::new());
        Self { readonly: machine.readonly, fault, done: 0, world, pending, off: false, rebooted: false, left }
    }

    pub(super) fn order(&mut self) -> &mut Vec<usize> {
        &mut self.world.order
    }

    /// The machine as it is when everything was written out.
    pub(super) fn written(&self) -> World {
        let mut world = self.world.clone();
        world.names = apply(&world.names, &self.pending);
        world.seen = world.env.clone();
        world
    }

    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// All that may be on the disk if the machine stops now.
    fn crashed(&self) -> Vec<World> {
        let mut worlds = [self.world.clone()].to_vec();
        let mut names = self.world.names.clone();
        for op in &self.pending {
            names = apply(&names, [op]);
            worlds.push(World { names: names.clone(), ..self.world.clone() });
        }
        if self.world.env != self.world.seen {
            let seen: Vec<_> = worlds.iter().map(|world| World { seen: world.env.clone(), ..world.clone() }).collect();
            worlds.extend(seen);
        }
        worlds
    }

    /// What may be on the disk before what was just begun, if power is lost in it.
    fn before(&self) -> Vec<World> {
        if self.fault == Fault::Cut(self.done - 1) { self.crashed() } else { Vec::new() }
    }

    /// Nothing is done any more after a cut; says whether this one is to be done. A cut in an effect may find it done or not.
    fn begin(&mut self) -> Result<bool, String> {
        let now = self.done;
        self.done += 1;
        if self.off {
            return Ok(false);
        }
        match self.fault {
            Fault::Fails(at) if at == now => Err("an I/O error".into()),
            _ => Ok(true),
        }
    }

    /// Power is lost, if it is to be lost in what was just done. `before`: what could be there already then.
    fn end(&mut self, before: Vec<World>) {
        if self.fault == Fault::Cut(self.done - 1) {
            self.cut();
            self.left.extend(before);
        }
    }

    pub(super) fn cut(&mut self) {
        self.off = true;
        self.left = self.crashed();
    }

    fn name(&mut self, op: Op) -> Result<(), String> {
        if self.begin()? {
            if self.readonly {
                return Err("it is read-only".into());
            }
            let before = self.before();
            self.pending.push(op);
            self.end(before);
        }
        Ok(())
    }

    fn sync(&mut self) {
        let pending = core::mem::take(&mut self.pending);
        self.world.names = apply(&self.world.names, &pending);
    }

    fn tell(&mut self, env: Env) -> Result<(), String> {
        if self.begin()? {
            if self.readonly {
                return Err("it is read-only".into());
            }
            let mut before = self.before();
            let torn: Vec<_> = before.iter().map(|w| World { env: Env::Torn, seen: Env::Torn, ..w.clone() }).collect();
            before.extend(torn);
            self.world.env = env;
            self.end(before);
        }
        Ok(())
    }

    /// To where GRUB sees it.
    pub(super) fn write(&mut self, env: Env) -> Result<(), String> {
        self.tell(env)?;
        if !self.off {
            self.sync();
            self.world.seen = self.world.env.clone();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        if self.begin()? {
            let before = self.before();
            self.sync();
            self.world.seen = self.world.env.clone();
            self.end(before);
        }
        Ok(())
    }

    pub(super) fn perform(&mut self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Create { name } => self.name(Op::Create(name.clone())),
            Effect::Rename { from, to } => self.name(Op::Rename(from.clone(), to.clone())),
            Effect::Sync => {
                if self.begin()? {
                    let before = self.before();
                    self.sync();
                    self.end(before);
                }
                Ok(())
            }
            Effect::SetDefault { entry } => self.tell(Env::Default(entry.as_str().into())),
            Effect::Flush => self.flush(),
            Effect::Disarm => self.write(Env::Unset),
            Effect::Arm { starts } => self.write(Env::Armed(starts.clone())),
            Effect::Reboot => {
                if self.begin()? {
                    // Nothing is unmounted on the way.
                    self.cut();
                    self.rebooted = self.fault != Fault::Cut(self.done - 1);
                }
                Ok(())
            }
            Effect::Pivot { .. } | Effect::Exhausted { .. } => {
                if self.begin()? {
                    let before = self.before();
                    self.end(before);
                }
                Ok(())
            }
        }
    }

    pub(super) fn step(&mut self, machine: &Machine, step: &Step) -> Result<(), String> {
        match step {
            Step::Create { name } => self.name(Op::Create(name.clone())),
            Step::Rename { from, to } => self.name(Op::Rename(from.clone(), to.clone())),
            Step::Remove { name } => self.name(Op::Remove(name.clone())),
            Step::Sync => self.perform(&Effect::Sync),
            Step::SetDefault { id } => {
                // OSTree writes its entries so that a bootloader sees all of them or none, and with them all that is pending.
                if self.begin()? {
                    if self.readonly {
                        return Err("it is read-only".into());
                    }
                    let before = self.before();
                    self.sync();
                    self.world.seen = self.world.env.clone();
                    let deployment = machine.deployment(id);
                    self.world.order.retain(|other| *other != deployment);
                    self.world.order.insert(0, deployment);
                    self.end(before);
                }
                Ok(())
            }
            Step::RemoveOverride | Step::Disarm => self.write(Env::Unset),
        }
    }
}
