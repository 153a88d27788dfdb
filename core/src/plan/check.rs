// SPDX-License-Identifier: Apache-2.0
//! Invariants of finished plans, told without knowing how a plan was made.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Plan, Step, crypttab};
use crate::config::schema::VIRTIOFS;
use crate::diag::Failure;
use crate::path;
use crate::stage::Stage;

/// Checks a plan:
/// - every step belongs to the stage;
/// - every path is absolute and clean, so that none leads out of the root by its text;
/// - no path is made twice, none is made below a file or link of the plan, and nothing that was made is removed;
/// - the root itself is neither removed nor written, mounted on nor unmounted;
/// - no device is given to two of arrays, encrypted volumes and file systems;
/// - mount points are mounted on once, what lies above first; unmounting goes the other way;
/// - no user and no group is handled twice, and keys go below `.ssh`.
///
/// # Errors
/// Each invariant that doesn't hold. It is a defect of Fledge, not of the configuration.
pub fn check(plan: &Plan) -> Result<(), Vec<Failure>> {
    let mut checker = Checker::default();
    for (number, planned) in plan.steps.iter().enumerate() {
        let before = checker.faults.len();
        checker.step(&planned.step, plan.stage);
        for fault in checker.faults.get_mut(before..).unwrap_or_default() {
            fault.what = format!("checking step {} of the plan for {}: {}", number + 1, plan.stage, planned.step);
            fault.place = planned.place.clone().map(Into::into);
        }
    }
    if checker.faults.is_empty() { Ok(()) } else { Err(checker.faults) }
}

/// What a plan makes at a path.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Thing {
    Directory,
    Leaf,
}

#[derive(Default)]
struct Checker<'p> {
    made: BTreeMap<&'p str, Thing>,
    devices: Vec<&'p str>,
    mounted: Vec<&'p str>,
    unmounted: Vec<&'p str>,
    users: BTreeSet<&'p str>,
    groups: BTreeSet<&'p str>,
    faults: Vec<Failure>,
}

impl<'p> Checker<'p> {
    fn fault(&mut self, why: impl Into<String>) {
        self.faults.push(
            Failure::new("", why)
                .remedy("this is a defect of Fledge, not of the configuration: please report it with both"),
        );
    }

    fn step(&mut self, step: &'p Step, stage: Stage) {
        if stage_of(step) != stage {
            self.fault(format!("the step belongs to the stage {}", stage_of(step)));
        }
        match step {
            Step::SetKernelArguments { should_exist, should_not_exist } => {
                if should_exist.iter().chain(should_not_exist).any(|argument| argument.contains(['\n', '\0'])) {
                    self.fault("an argument has a line break or a NUL in it");
                }
            }
            Step::Partition(step) => self.faults(step.faults()),
            Step::Raid(step) => {
                self.faults(step.faults());
                step.devices().iter().for_each(|device| self.device(device));
            }
            Step::Luks(step) => {
                self.faults(step.faults());
                self.device(&step.opening().device);
            }
            Step::Filesystem(step) => {
                self.faults(step.faults());
                self.device(step.device());
            }
            Step::Mount { device, path, format, .. } => {
                // The host names a directory that it shares by a tag.
                if format != VIRTIOFS {
                    self.faults(super::disks::device_fault(device).into_iter().collect());
                }
                self.mount(path);
            }
            Step::Unmount { path } => self.unmount(path),
            Step::AdoptGroup { .. } => {}
            Step::Label { policy, paths } => {
                if policy.is_empty() || policy.contains('/') {
                    self.fault(format!("{policy:?} is no name of a policy"));
                }
                for path in paths {
                    self.path(path);
                }
            }
            Step::EnsureGroup(group) => self.once(&group.name, true),
            Step::DeleteGroup { name } => self.once(name, true),
            Step::EnsureUser(user) => self.once(&user.name, false),
            Step::DeleteUser { name } => self.once(name, false),
            Step::OwnHome { directories, .. } => directories.iter().for_each(|directory| self.path(directory)),
            Step::AuthorizeKeys { file, .. } => {
                if !file.starts_with(".ssh/") || path::clean(file) != format!("/{file}") {
                    self.fault(format!("{file} is no file below .ssh"));
                }
            }
            Step::Remove { path } => {
                self.path(path);
                if let Some(made) = self.made.keys().find(|made| path::is_within(made, path)) {
                    self.fault(format!("an earlier step makes {made}"));
                }
            }
            Step::EnsureDirectory { path, .. } => {
                if path != "/" {
                    self.path(path);
                }
                self.make(path, Thing::Directory);
            }
            Step::WriteFile { path, .. } | Step::Symlink { path, .. } => {
                self.path(path);
                self.make(path, Thing::Leaf);
            }
            Step::HardLink { path, target, .. } => {
                self.path(target);
                self.path(path);
                self.make(path, Thing::Leaf);
            }
            // A file of the configuration may be the one that lines are added to.
            Step::AddLines { path, lines } => {
                self.path(path);
                if lines.iter().any(|line| line.contains('\n')) {
                    self.fault("a line has a line break in it");
                }
            }
            Step::Begin { path, .. } | Step::WriteResult { path, .. } => self.path(path),
            Step::NoteOriginal { note, path } => {
                self.path(note);
                self.path(path);
            }
            Step::Crypttab(crypttab::Step::Table { path, lines }) => {
                self.path(path);
                if lines.iter().any(|(_, line)| line.contains('\n')) {
                    self.fault("a line has a line break in it");
                }
            }
            Step::Crypttab(crypttab::Step::Settle { device, .. }) => {
                self.faults(super::disks::device_fault(device).into_iter().collect());
            }
            Step::DisableUnit { unit } => {
                if unit.is_empty() || unit.contains('/') || unit.starts_with('-') {
                    self.fault(format!("{unit:?} is no name of a unit"));
                }
            }
        }
    }

    fn path(&mut self, path: &str) {
        if path == "/" {
            self.fault("it is about the root itself");
        } else if path::clean(path) != path {
            self.fault(format!("the path {path:?} is not absolute and clean"));
        }
        if path.contains('\0') {
            self.fault("there is a NUL in a path");
        }
    }

    fn faults(&mut self, faults: Vec<String>) {
        for fault in faults {
            self.fault(fault);
        }
    }

    fn device(&mut self, device: &'p str) {
        if self.devices.contains(&device) {
            self.fault(format!("an earlier step is about {device}"));
        }
        self.devices.push(device);
    }

    fn make(&mut self, path: &'p str, thing: Thing) {
        if self.made.contains_key(path) {
            self.fault(format!("an earlier step makes {path}"));
        }
        if let Some(above) = path::ancestors(path).find(|above| self.made.get(above) == Some(&Thing::Leaf)) {
            self.fault(format!("an earlier step makes {above}, which is above it and no directory"));
        }
        self.made.insert(path, thing);
    }

    fn mount(&mut self, path: &'p str) {
        self.path(path);
        if self.mounted.contains(&path) {
            self.fault(format!("an earlier step mounts something at {path}"));
        } else if let Some(below) = self.mounted.iter().find(|mounted| path::is_within(mounted, path)) {
            self.fault(format!("it would hide {below}, which an earlier step mounts"));
        }
        self.mounted.push(path);
    }

    fn unmount(&mut self, path: &'p str) {
        self.path(path);
        if self.unmounted.contains(&path) {
            self.fault(format!("an earlier step unmounts {path}"));
        } else if let Some(above) = self.unmounted.iter().find(|above| path::is_within(path, above)) {
            self.fault(format!("an earlier step unmounts {above}, which it lies in"));
        }
        self.unmounted.push(path);
    }

    fn once(&mut self, name: &'p str, group: bool) {
        let names = if group { &mut self.groups } else { &mut self.users };
        if !names.insert(name) {
            self.fault(format!("an earlier step is about {name:?}"));
        }
    }
}

fn stage_of(step: &Step) -> Stage {
    match step {
        Step::SetKernelArguments { .. } => Stage::Kargs,
        Step::Partition(_) | Step::Raid(_) | Step::Luks(_) | Step::Filesystem(_) => Stage::Disks,
        Step::Mount { .. } => Stage::Mount,
        Step::Unmount { .. } => Stage::Umount,
        _ => Stage::Files,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::{Attributes, Contents, PlannedStep};
    use super::*;

    fn faults(stage: Stage, steps: Vec<Step>) -> usize {
        let steps = steps.into_iter().map(|step| PlannedStep { step, place: None }).collect();
        check(&Plan { stage, steps }).map_or_else(|faults| faults.len(), |()| 0)
    }

    fn write(path: &str) -> Step {
        let contents = Some(Contents::Inline(Vec::new()));
        Step::WriteFile {
            path: path.into(),
            contents,
            keep: None,
            append: vec![],
            attributes: Attributes::default(),
            replace: false,
        }
    }

    fn mount(path: &str) -> Step {
        Step::Mount {
            device: "/dev/vda1".into(),
            path: path.into(),
            format: "ext4".into(),
            options: super::super::Options::default(),
            policy: None,
        }
    }

    #[test]
    fn sound_plans_pass() {
        assert_eq!(faults(Stage::Files, vec![Step::Remove { path: "/a".into() }, write("/a"), write("/b/c")]), 0);
        assert_eq!(faults(Stage::Mount, vec![mount("/var"), mount("/var/lib")]), 0);
        let unmount = |path: &str| Step::Unmount { path: path.into() };
        assert_eq!(faults(Stage::Umount, vec![unmount("/var/lib"), unmount("/var")]), 0);
    }

    fn disk(device: &str, tool: &'static str) -> Step {
        Step::Filesystem(crate::plan::filesystems::Step::Make {
            device: device.into(),
            node: device.into(),
            format: "xfs".into(),
            tool,
            arguments: vec![],
            named: (None, None),
            marked: false,
            replaces: None,
        })
    }

    fn array(name: &str, devices: &[&str]) -> Step {
        Step::Raid(crate::plan::raid::Step::Create {
            name: name.into(),
            arguments: vec!["--create".into(), name.into()],
            devices: devices.iter().map(|device| (*device).into()).collect(),
            nodes: vec![],
            stop: vec![],
            replaces: vec![],
        })
    }

    #[test]
    fn no_device_is_given_twice() {
        let mkfs = "mkfs.xfs";
        assert_eq!(faults(Stage::Disks, vec![array("a", &["/dev/b", "/dev/c"]), disk("/dev/md/a", mkfs)]), 0);
        assert_eq!(faults(Stage::Disks, vec![disk("/dev/b", mkfs), disk("/dev/b", mkfs)]), 1);
        assert_eq!(faults(Stage::Disks, vec![array("a", &["/dev/b"]), disk("/dev/b", mkfs)]), 1);
        assert_eq!(faults(Stage::Disks, vec![array("a", &["/dev/b", "/dev/b"])]), 1);
        assert_eq!(faults(Stage::Disks, vec![disk("dev/b", mkfs)]), 1);
        assert_eq!(faults(Stage::Disks, vec![disk("/dev/b", "rm")]), 1);
        assert_eq!(faults(Stage::Disks, vec![array("-a", &["/dev/b"])]), 1);
        assert_eq!(faults(Stage::Disks, vec![array("a", &[])]), 1);
    }

    #[test]
    fn each_broken_invariant_is_found() {
        for path in ["relative", "/a/../../b", "/a//b", "/", "/a/.", "/a/", ""] {
            assert_ne!(faults(Stage::Files, vec![write(path)]), 0, "{path:?}");
        }
        assert_eq!(faults(Stage::Files, vec![write("/a"), write("/a")]), 1);
        assert_eq!(faults(Stage::Files, vec![write("/a"), write("/a/b")]), 1);
        assert_eq!(faults(Stage::Files, vec![write("/a/b"), Step::Remove { path: "/a".into() }]), 1);
        assert_eq!(faults(Stage::Files, vec![mount("/var")]), 1);
        assert_eq!(faults(Stage::Mount, vec![mount("/var"), mount("/var")]), 1);
        assert_eq!(faults(Stage::Mount, vec![mount("/var/lib"), mount("/var")]), 1);
        let unmount = |path: &str| Step::Unmount { path: path.into() };
        assert_eq!(faults(Stage::Umount, vec![unmount("/var"), unmount("/var/lib")]), 1);
        assert_eq!(faults(Stage::Files, vec![Step::DisableUnit { unit: "--now".into() }]), 1);
        let keys = Step::AuthorizeKeys { user: "core".into(), file: ".ssh/../../x".into(), keys: vec![] };
        assert_eq!(faults(Stage::Files, vec![keys]), 1);
        let delete = || Step::DeleteUser { name: "core".into() };
        assert_eq!(faults(Stage::Files, vec![delete(), delete()]), 1);
    }
}
