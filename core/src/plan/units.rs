// SPDX-License-Identifier: Apache-2.0
//! Units, their drop-ins and masks, and the preset that enables and disables them.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;

use super::files::{Planner, standing_in_the_way};
use super::world::{Made, Standing, World};
use super::{Attributes, Contents, Step};
use crate::config::{Config, Unit};
use crate::diag::Failure;
use crate::path;

/// Where the lines that enable and disable go.
pub(super) const PRESET: &str = "/etc/systemd/system-preset/20-ignition.preset";
const UNITS: &str = "/etc/systemd/system";
const NOWHERE: &str = "/dev/null";

/// The file of a unit.
pub(super) fn unit_path(unit: &str) -> String {
    path::below(UNITS, unit)
}

/// The file of a drop-in.
pub(super) fn dropin_path(unit: &str, dropin: &str) -> String {
    path::below(UNITS, &format!("{unit}.d/{dropin}"))
}

/// Plans the units of a configuration.
pub(super) fn plan(config: &Config, world: &mut World<'_>, planner: &mut Planner<'_>) {
    for unit in &config.systemd.units {
        let place = planner.place(unit.origin, "$.systemd.units");
        let mut steps = Vec::new();
        match plan_unit(unit, world, planner, &mut steps) {
            Ok(()) => steps.into_iter().for_each(|step| planner.step(step, place.clone())),
            Err(failure) => planner.refuse(place, failure),
        }
    }
    let lines = preset(&config.systemd.units);
    if lines.is_empty() {
        return;
    }
    for unit in config.systemd.units.iter().filter(|unit| unit.enabled == Some(false)) {
        // A unit that is only written now may be enabled by links that were there before it.
        if world.facts().enabled_units.contains(&unit.name) || has_contents(unit) {
            let place = planner.place(unit.origin, "$.systemd.units");
            planner.step(Step::DisableUnit { unit: unit.name.clone() }, place);
        }
    }
    let path = world.resolve(PRESET);
    match world.at(&path) {
        Standing::Nothing | Standing::OldFile(..) | Standing::NewFile => {
            world.make(&path, Made::File);
            world.label(&path);
            planner.step(Step::AddLines { path, lines }, None);
        }
        standing => {
            let why = standing_in_the_way(&path, &standing);
            planner.refuse(
                None,
                Failure::new(format!("writing the preset {path}"), why).remedy("remove it from the target"),
            );
        }
    }
}

fn has_contents(unit: &Unit) -> bool {
    unit.contents.as_ref().is_some_and(|contents| !contents.is_empty())
}

fn plan_unit(
    unit: &Unit,
    world: &mut World<'_>,
    planner: &mut Planner<'_>,
    steps: &mut Vec<Step>,
) -> Result<(), Failure> {
    let name = &unit.name;
    for dropin in &unit.dropins {
        let Some(contents) = &dropin.contents else { continue };
        let what = || format!("writing the drop-in {:?} of the unit {name:?}", dropin.name);
        steps.push(write(&dropin_path(name, &dropin.name), contents, world, planner, &what)?);
    }
    let path = world.resolve(&unit_path(name));
    if unit.mask == Some(true) {
        // The mask takes the place of a file of the unit, so that isn't written at all.
        let what = || format!("masking the unit {name:?}");
        planner.withdraw(&path, world, &what)?;
        let replace = match world.at(&path) {
            Standing::Nothing | Standing::Symlink(NOWHERE) => false,
            standing @ Standing::Blocked(_) => {
                let why = standing_in_the_way(&path, &standing);
                return Err(Failure::new(what(), why).remedy("remove it from the target"));
            }
            Standing::Directory => {
                if let Some(mount) = world.mounted_within(&path) {
                    return Err(Failure::new(what(), format!("something is mounted at {mount}"))
                        .remedy("mount it elsewhere: this path is the unit's"));
                }
                steps.push(Step::Remove { path: path.clone() });
                false
            }
            _ => true,
        };
        world.make(&path, Made::Symlink(NOWHERE.into()));
        world.label(&path);
        let attributes = Attributes::default();
        steps.push(Step::Symlink { path, target: NOWHERE.into(), attributes, replace });
    } else if let Some(contents) = unit.contents.as_ref().filter(|contents| !contents.is_empty()) {
        steps.push(write(&unit_path(name), contents, world, planner, &|| format!("writing the unit {name:?}"))?);
    } else if unit.mask == Some(false) && matches!(world.at(&path), Standing::Symlink(NOWHERE)) {
        planner.withdraw(&path, world, &|| format!("unmasking the unit {name:?}"))?;
        // Something else may have stood there before the configuration's own link.
        if world.at(&path) != Standing::Nothing {
            world.remove(&path);
            steps.push(Step::Remove { path });
        }
    }
    Ok(())
}

/// Units take the place of what stands there, and of what the configuration's own files and links would put there, as they do in
/// Ignition.
fn write(
    path: &str,
    contents: &str,
    world: &mut World<'_>,
    planner: &mut Planner<'_>,
    what: &dyn Fn() -> String,
) -> Result<Step, Failure> {
    let path = world.resolve(path);
    if world.at(&path) != Standing::Directory {
        planner.withdraw(&path, world, what)?;
    }
    let replace = match world.at(&path) {
        Standing::Nothing => false,
        standing @ (Standing::Blocked(_) | Standing::Directory) => {
            return Err(Failure::new(what(), standing_in_the_way(&path, &standing)).remedy("remove it from the target"));
        }
        _ => true,
    };
    world.make(&path, Made::File);
    world.label(&path);
    Ok(Step::WriteFile {
        path,
        contents: Some(Contents::Inline(contents.as_bytes().to_vec())),
        keep: None,
        append: Vec::new(),
        attributes: Attributes::default(),
        replace,
    })
}

/// The lines of the preset, in the order of names. Enabled instances of one template share a line (systemd.preset(5)); a line that
/// disables takes no instances, so disabled ones get a line each.
fn preset(units: &[Unit]) -> Vec<String> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for unit in units {
        match (unit.enabled, instance(&unit.name)) {
            (None, _) => {}
            (Some(true), Some((template, instance))) => {
                let line =
                    lines.entry(format!("{template}-enabled")).or_insert_with(|| vec![format!("enable {template}")]);
                if !instance.is_empty() {
                    line.push(instance.to_owned());
                }
            }
            (Some(enabled), _) => {
                let (state, verb) = if enabled { ("enabled", "enable") } else { ("disabled", "disable") };
                lines.insert(format!("{}-{state}", unit.name), vec![verb.to_string(), unit.name.clone()]);
            }
        }
    }
    lines.into_values().map(|words| words.join(" ")).collect()
}

/// `name@instance.type` as template and instance.
fn instance(unit: &str) -> Option<(String, &str)> {
    let (name, rest) = unit.split_once('@')?;
    let (instance, kind) = rest.rsplit_once('.')?;
    Some((format!("{name}@.{kind}"), instance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, enabled: bool) -> Unit {
        Unit { name: name.into(), enabled: Some(enabled), ..Unit::default() }
    }

    #[test]
    fn the_preset_is_sorted_and_groups_instances() {
        let units = [
            unit("echo@foo.service", true),
            unit("zincati.service", false),
            unit("echo@bar.service", true),
            unit("bar.service", true),
            unit("echo@gone.service", false),
            Unit { name: "left.service".into(), ..Unit::default() },
            unit("postgresql@9.3-main.service", true),
            unit("plain@.service", true),
        ];
        assert_eq!(
            preset(&units),
            [
                "enable bar.service",
                "enable echo@.service foo bar",
                "disable echo@gone.service",
                "enable plain@.service",
                "enable postgresql@.service 9.3-main",
                "disable zincati.service",
            ]
        );
    }
}
