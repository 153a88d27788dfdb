// SPDX-License-Identifier: Apache-2.0
//! A case: a folder below `cases/` with a `case.toml` and the files that it names. See `cases/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::image::{Pivot, Variant};

/// How a case's machine gets to the initramfs, and how far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// BIOS, GRUB, boot entries, the first-boot stamp; the OSTree deployment.
    Grub,
    /// QEMU loads kernel and initramfs; the OSTree deployment.
    Kernel,
    /// QEMU loads kernel and initramfs; a small ext4 target without OSTree; the machine stays in the initramfs.
    Initramfs,
}

/// Where a boot is expected to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// At the login prompt of the real root.
    Login,
    /// In `emergency.target`, without ever having left the initramfs.
    Emergency,
    /// In the initramfs, with every stage done (form `initramfs` only).
    Initramfs,
    /// Nowhere: its power is cut when something in the guest, which `prepare` set up, writes `cut` to the port.
    Cut,
}

impl Outcome {
    /// The place that the checker names in its answer.
    pub fn place(self) -> &'static str {
        match self {
            Self::Login => "real-root",
            Self::Emergency => "emergency",
            Self::Initramfs => "initramfs",
            Self::Cut => "cut",
        }
    }
}

/// How a case is broken on purpose, to see that it can fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sabotage {
    /// `fledge` is replaced by a program that does nothing and succeeds.
    #[default]
    NoOp,
    /// Each config of the case (its files `*.ign`, on the firmware device, served, or placed) is replaced by an empty one.
    EmptyConfig,
    /// The boot entries say `fledge.boot.count=0`: nothing is counted, and nothing falls back.
    NoCount,
}

/// Which runs take a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Every run of the tests.
    #[default]
    Every,
    /// `./dev test --all` and whoever names it: it takes longer than a change may wait.
    All,
}

/// What a case does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Its `[[boots]]`.
    #[default]
    Boots,
    /// The configs of `tests/oracle`, with Debian's Ignition and with ours.
    Oracle,
}

/// A case as its `case.toml` has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of its own in the file")]
pub struct Case {
    /// The folder's name.
    #[serde(skip)]
    pub name: String,
    /// The folder.
    #[serde(skip)]
    pub folder: PathBuf,
    /// What the case shows, in one sentence.
    pub summary: String,
    /// Other names of the case: what its machine shows as well.
    #[serde(default)]
    pub also: Vec<String>,
    /// Seconds that it takes on two cores without KVM.
    pub seconds: u64,
    /// Which runs take it.
    #[serde(default)]
    pub tier: Tier,
    /// What it does.
    #[serde(default)]
    pub work: Work,
    /// How the machine boots.
    pub form: Form,
    /// The system that it boots (forms `grub` and `kernel`).
    #[serde(default)]
    pub image: Variant,
    /// Looks whose facts must be the same in a boot and the one that it is like.
    #[serde(default)]
    pub alike: Vec<Value>,
    /// Memory in MiB.
    #[serde(default = "default_memory")]
    pub memory: u32,
    /// Bytes of the disk; never less than the image has.
    #[serde(default)]
    pub disk: u64,
    /// How many ways lead to the disk (forms `grub` and `kernel`).
    #[serde(default = "default_paths")]
    pub paths: u32,
    /// Kernel arguments beside the image's own.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Kernel arguments of the image's boot entry that are left out (form `grub`).
    #[serde(default)]
    pub without: Vec<String>,
    /// Whether a boot from an untouched disk is a first boot.
    #[serde(default = "default_first_boot")]
    pub first_boot: bool,
    /// The text of the first-boot stamp.
    #[serde(default)]
    pub stamp: String,
    /// How it is broken on purpose.
    #[serde(default)]
    pub sabotage: Sabotage,
    /// Blank disks beside the boot disk.
    #[serde(default)]
    pub disks: Vec<BlankDisk>,
    /// Whether the target has Debian's SELinux policy (form `initramfs`).
    #[serde(default)]
    pub selinux: bool,
    /// Whether the machine has a TPM.
    #[serde(default)]
    pub tpm: bool,
    /// Whether the host runs a tang server.
    #[serde(default)]
    pub tang: bool,
    /// What the host serves.
    #[serde(default)]
    pub serve: Vec<Served>,
    /// Files that an installer left on the boot partition (forms `grub` and `kernel`).
    #[serde(default)]
    pub boot_files: Vec<Placed>,
    /// What the target holds (form `initramfs`), beside the accounts files.
    #[serde(default)]
    pub target: Vec<Placed>,
    /// The boots, one after the other.
    #[serde(default)]
    pub boots: Vec<Boot>,
}

/// A disk that is blank, or freshly formatted, when a fresh boot begins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlankDisk {
    /// Its serial number: in the guest it is `/dev/disk/by-id/virtio-SERIAL`.
    pub serial: String,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of a sector, logical and physical: 512 or 4096.
    #[serde(default = "default_sector")]
    pub sector: u32,
    /// What formats it on the host: a program of the tools' root and its arguments, without the image's path.
    #[serde(default)]
    pub format: Vec<String>,
}

/// Something that the host serves over HTTP and HTTPS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Served {
    /// The path, with its leading slash.
    pub path: String,
    /// The file in the case's folder; without it the body is empty.
    pub file: Option<String>,
    /// How many zeros follow the file.
    #[serde(default)]
    pub zeros: u64,
    /// Whether the body is packed with gzip.
    #[serde(default)]
    pub gzip: bool,
    /// The status, if not 200.
    #[serde(default)]
    pub status: u16,
    /// Whether the request is taken and never answered.
    #[serde(default)]
    pub silent: bool,
}

/// A file, folder (neither `file`, `text` nor `link`) or link that is there before the machine boots.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// The path without a leading slash.
    pub path: String,
    /// Permission bits in octal.
    #[serde(default)]
    pub mode: Option<String>,
    /// The file in the case's folder.
    pub file: Option<String>,
    /// The text.
    pub text: Option<String>,
    /// The target of a symbolic link.
    pub link: Option<String>,
}

impl Placed {
    /// The permission bits, or `default`.
    ///
    /// # Errors
    /// If they aren't an octal number.
    pub fn mode(&self, default: u32) -> Result<u32> {
        let Some(text) = &self.mode else { return Ok(default) };
        u32::from_str_radix(text, 8).with_context(|| format!("the mode {text:?} of {} is not octal", self.path))
    }
}

/// One boot of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// What this boot is, for messages.
    #[serde(default)]
    pub name: String,
    /// The file that goes to the firmware device as `opt/com.coreos/config`.
    pub config: Option<String>,
    /// A file that goes there as it is, whatever stands in it.
    #[serde(skip)]
    pub verbatim: Option<PathBuf>,
    /// Whether it starts from an untouched disk; the first boot always does.
    #[serde(default)]
    pub fresh: bool,
    /// The name of an earlier boot in which the looks of `alike` must have seen the same.
    pub like: Option<String>,
    /// Who pivots into the deployment; without it, the one whom the image was made with.
    pub pivot: Option<Pivot>,
    /// Kernel arguments of this boot alone.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Shell lines that the initramfs runs when the disks are there, before the stages. One that fails stops the machine.
    #[serde(default)]
    pub prepare: Vec<String>,
    /// Where it ends.
    pub outcome: Outcome,
    /// How often firmware and kernel start until the machine ends there; without it, a reboot is the end.
    pub starts: Option<Starts>,
    /// What the console has or lacks.
    #[serde(default)]
    pub console: Texts,
    /// All requests that the host got, in order: `http GET /path`. Without it, nobody looks.
    pub requests: Option<Vec<String>>,
    /// What the checker looks at.
    #[serde(default)]
    pub facts: Vec<Map<String, Value>>,
}

/// How often things start in one boot of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Starts {
    /// The firmware.
    pub firmware: usize,
    /// The kernel; more often than the firmware if one kernel starts another.
    pub kernel: usize,
}

/// Texts that must and must not be there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// Each must be there.
    #[serde(default)]
    pub contains: Vec<String>,
    /// None may be there.
    #[serde(default)]
    pub lacks: Vec<String>,
}

fn default_paths() -> u32 {
    1
}

fn default_first_boot() -> bool {
    true
}

fn default_memory() -> u32 {
    1024
}

fn default_sector() -> u32 {
    512
}

/// The folder with the cases of this checkout.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// A file of a case: in its folder, or else of those that several cases share, or of the demo, which the smallest machine runs too.
pub fn resolve(folder: &Path, name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [folder.join(name), here.join("shared").join(name)];
    let found = places.into_iter().find(|place| place.is_file());
    found.unwrap_or_else(|| here.join("demo").join(name))
}

/// All cases, by name.
///
/// # Errors
/// If a folder has no valid `case.toml`.
pub fn list() -> Result<Vec<Case>> {
    let root = folder();
    let mut names: Vec<String> = fs::read_dir(&root)
        .with_context(|| format!("can't read {}", root.display()))?
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names.iter().map(|name| load(name)).collect()
}

/// The case of this name, which may be one of its other names, its placeholders still in it.
///
/// # Errors
/// If there is none, or its `case.toml` is not valid.
pub fn load(name: &str) -> Result<Case> {
    let folder = folder().join(name);
    if !folder.is_dir() {
        if let Some(case) = list()?.into_iter().find(|case| case.also.iter().any(|other| other == name)) {
            return Ok(case);
        }
    }
    let path = folder.join("case.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("there is no case {name:?} ({})", path.display()))?;
    parse(name, &folder, &text)
}

/// A case from the text of its `case.toml`.
///
/// # Errors
/// If the text is not valid.
pub fn parse(name: &str, folder: &Path, text: &str) -> Result<Case> {
    let mut case: Case = toml::from_str(text).with_context(|| format!("case {name}: case.toml"))?;
    name.clone_into(&mut case.name);
    folder.clone_into(&mut case.folder);
    if case.work == Work::Oracle {
        ensure!(case.boots.is_empty(), "case {name}: an oracle case has no [[boots]] of its own");
        ensure!(case.form == Form::Initramfs, "case {name}: an oracle case stays in the initramfs");
    } else {
        ensure!(!case.boots.is_empty(), "case {name}: there is no [[boots]]");
    }
    for (index, boot) in case.boots.iter().enumerate() {
        let Some(like) = &boot.like else { continue };
        let earlier = case.boots.iter().take(index).any(|other| other.name == *like);
        ensure!(
            earlier && !case.alike.is_empty(),
            "case {name}: a boot is like {like:?}, but in nothing that was seen"
        );
    }
    let compared = case.boots.iter().any(|boot| boot.like.is_some());
    ensure!(case.alike.is_empty() || compared, "case {name}: no boot is like another");
    for boot in &case.boots {
        let fits = match boot.outcome {
            Outcome::Login => case.form != Form::Initramfs,
            Outcome::Initramfs => case.form == Form::Initramfs,
            Outcome::Emergency | Outcome::Cut => true,
        };
        ensure!(fits, "case {name}: a machine of form {:?} can't end at {:?}", case.form, boot.outcome);
        // The place alone says nothing about what the stages did.
        let cut = boot.outcome == Outcome::Cut;
        let expects = !boot.facts.is_empty() || !boot.console.contains.is_empty();
        ensure!(cut || expects, "case {name}: a boot expects nothing");
        ensure!(!cut || boot.facts.is_empty(), "case {name}: nobody answers when the power is cut");
        for fact in &boot.facts {
            let expected = fact.get("is").and_then(Value::as_object);
            let expected = expected.with_context(|| format!("case {name}: a fact has no `is` table: {fact:?}"))?;
            ensure!(!expected.is_empty(), "case {name}: a fact expects nothing: {fact:?}");
            for (member, wanted) in expected {
                ensure!(!is_vacuous(wanted), "case {name}: {member} is compared with nothing: {fact:?}");
            }
            ensure!(fact.len() > 1, "case {name}: a fact looks at nothing: {fact:?}");
        }
    }
    Ok(case)
}

/// Whether an expected value holds whatever is seen: no condition at all, or one with an empty list of parts.
fn is_vacuous(wanted: &Value) -> bool {
    wanted.as_object().is_some_and(|conditions| {
        let empty = |name: &str| conditions.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty);
        conditions.is_empty() || empty("contains") || empty("lacks")
    })
}

/// A fact's look, as the checker wants it, and what is expected of the answer.
pub fn split(fact: &Map<String, Value>) -> (Value, Map<String, Value>) {
    let mut look = fact.clone();
    let expected = look.remove("is").and_then(|value| value.as_object().cloned()).unwrap_or_default();
    (Value::Object(look), expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_folder_holds_a_valid_case_and_its_files() {
        let cases = list().unwrap();
        assert!(!cases.is_empty());
        let mut names: Vec<&String> = cases.iter().flat_map(|case| case.also.iter().chain([&case.name])).collect();
        names.sort();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name stands for two cases: {names:?}");
        for case in &cases {
            assert!(case.summary.ends_with('.'), "{}: the summary is no sentence", case.name);
            assert!(case.seconds > 0, "{}: expected seconds", case.name);
            let files = case.serve.iter().filter_map(|served| served.file.as_ref());
            let files = files.chain(case.boots.iter().filter_map(|boot| boot.config.as_ref()));
            let files =
                files.chain(case.boot_files.iter().chain(&case.target).filter_map(|placed| placed.file.as_ref()));
            for file in files {
                assert!(resolve(&case.folder, file).is_file(), "{}: there is no file {file}", case.name);
            }
            for placed in case.boot_files.iter().chain(&case.target) {
                placed.mode(0).unwrap();
            }
        }
    }

    #[test]
    fn no_file_stands_in_a_case_folder_unused() {
        for case in list().unwrap() {
            let mut texts: Vec<String> = fs::read_dir(&case.folder)
                .unwrap()
                .map(|entry| String::from_utf8_lossy(&fs::read(entry.unwrap().path()).unwrap()).into_owned())
                .collect();
            if case.work == Work::Oracle {
                texts.extend(crate::oracle::configs::load().unwrap().into_iter().map(|config| config.text));
            }
            for entry in fs::read_dir(&case.folder).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let used = name == "case.toml" || texts.iter().any(|text| text.contains(&name));
                assert!(used, "{}: nothing uses {name}", case.name);
            }
        }
    }

    #[test]
    fn a_case_that_expects_nothing_is_refused() {
        let text = "summary = \"x.\"\nseconds = 1\nform = \"kernel\"\n[[boots]]\noutcome = \"login\"\n";
        assert!(parse("x", Path::new("/"), text).unwrap_err().to_string().contains("expects nothing"));
        for (boot, why) in [("like = \"y\"", "a boot is like"), ("name = \"y\"", "no boot is like")] {
            let text = text.replace("[[boots]]", &format!("alike = [{{ mounts = true }}]\n[[boots]]\n{boot}"));
            assert!(parse("x", Path::new("/"), &text).unwrap_err().to_string().contains(why), "{boot}");
        }
        let text = text.replace("login", "initramfs") + "facts = [{ path = \"/x\", is = { kind = \"file\" } }]\n";
        assert!(parse("x", Path::new("/"), &text).unwrap_err().to_string().contains("can't end"));
        let text = text.replace("kernel", "initramfs");
        assert_eq!(parse("x", Path::new("/"), &text).unwrap().boots.len(), 1);
        assert!(parse("x", Path::new("/"), &text.replace("seconds", "second")).is_err());
        for nothing in
            ["is = {}", "is = { kind = {} }", "is = { text = { contains = [] } }", "as = { kind = \"file\" }"]
        {
            let text = text.replace("is = { kind = \"file\" }", nothing);
            assert!(parse("x", Path::new("/"), &text).is_err(), "{nothing}");
        }
    }
}
