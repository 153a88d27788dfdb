// SPDX-License-Identifier: Apache-2.0
//! The archive that is appended to the image's initramfs. The kernel unpacks one after the other, so what is in it
//! replaces what dracut put there: a new `fledge` needs no new image. It also carries the checker and its units; the
//! image itself knows nothing of tests.
//!
//! Nothing but this harness puts the new `fledge` and `fledgectl` into the real root: the unit `fledge-test-stage.service` binds the
//! initramfs's over those in `/usr/bin` of the deployment.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;

use crate::cpio::Archive;

/// What goes over the initramfs.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The tree under test: its `fledge` replaces the image's.
    pub dist: Option<PathBuf>,
    /// The companion's tree, if the image has the companion: its `fledgectl` replaces the image's.
    pub companion: Option<PathBuf>,
    /// The static `fledge-vm-checker`.
    pub checker: PathBuf,
    /// Replaces `fledge` by a program that does nothing and succeeds.
    pub sabotage: bool,
    /// Runs the checker in the initramfs when it is done, instead of in the real root.
    pub stay_in_initramfs: bool,
    /// Who pivots, if not the one whom the image was made with.
    pub pivot: Option<Pivot>,
}

/// Who pivots into the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pivot {
    /// `ostree-prepare-root`.
    Ostree,
    /// `fledge pivot`.
    Native,
}

/// The name that units of distributions order themselves by, where it goes before the unit of OSTree's own dracut module.
const PREPARE_ROOT: &str = "etc/systemd/system/ostree-prepare-root.service";

const CHECKER: &str = "usr/lib/fledge-test/checker";
/// Where the checker finds it; nothing in the initramfs runs it.
const FLEDGECTL: &str = "usr/lib/fledge-test/fledgectl";
const UNITS: &str = "usr/lib/systemd/system";

impl Overlay {
    /// Writes the image's initramfs followed by this overlay.
    ///
    /// # Errors
    /// If a file can't be read or written.
    pub fn append_to(&self, base: &Path, out: &Path) -> Result<()> {
        fs::copy(base, out).with_context(|| format!("copying {}", base.display()))?;
        let file = File::options().append(true).open(out)?;
        let mut packed = GzEncoder::new(file, Compression::fast());
        packed.write_all(&self.archive()?)?;
        packed.finish()?;
        Ok(())
    }

    fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        let checker = read(&self.checker)?;
        archive.file(CHECKER, 0o755, &checker);
        if self.sabotage {
            // Called by any other name than its own, the checker does nothing.
            archive.file("usr/bin/fledge", 0o755, &checker);
        } else if let Some(dist) = &self.dist {
            archive.file("usr/bin/fledge", 0o755, &read(&dist.join("usr/bin/fledge"))?);
        }
        if let Some(companion) = &self.companion {
            archive.file(FLEDGECTL, 0o755, &read(&companion.join("usr/bin/fledgectl"))?);
        }
        self.pick(&mut archive)?;
        for (name, text, wanted_by) in [
            ("fledge-test-before.service", include_str!("../../image/fledge-test-before.service"), "sysinit.target"),
            (
                "fledge-test-emergency.service",
                include_str!("../../image/fledge-test-emergency.service"),
                "emergency.target",
            ),
            ("fledge-test-prepare.service", include_str!("../../image/fledge-test-prepare.service"), "initrd.target"),
            if self.stay_in_initramfs {
                (
                    "fledge-test-initramfs.service",
                    include_str!("../../image/fledge-test-initramfs.service"),
                    "initrd.target",
                )
            } else {
                ("fledge-test-stage.service", include_str!("../../image/fledge-test-stage.service"), "initrd.target")
            },
        ] {
            archive.file(&format!("{UNITS}/{name}"), 0o644, text.as_bytes());
            archive.link(&format!("{UNITS}/{wanted_by}.wants/{name}"), &format!("../{name}"));
        }
        archive.file(
            "usr/lib/fledge-test/fledge-test-report.service",
            0o644,
            include_bytes!("../../image/fledge-test-report.service"),
        );
        Ok(archive.finish())
    }

    /// Does over again what the dracut module's option `fledge_pivot` decided.
    fn pick(&self, archive: &mut Archive) -> Result<()> {
        let unit = match (self.pivot, &self.dist) {
            (Some(Pivot::Native), Some(dist)) => {
                let unit = "usr/lib/dracut/modules.d/40fledge-ostree/fledge-pivot.service";
                archive.file(&format!("{UNITS}/fledge-pivot.service"), 0o644, &read(&dist.join(unit))?);
                "fledge-pivot.service"
            }
            (Some(_), _) => "ostree-prepare-root.service",
            (None, _) => return Ok(()),
        };
        archive.link(PREPARE_ROOT, &format!("/{UNITS}/{unit}"));
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("can't read {}", path.display()))
}
