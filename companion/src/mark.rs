// SPDX-License-Identifier: Apache-2.0
//! What a person says of a deployment: `fledgectl bless`.

use fledge_core::counting::{Id, forget, mark_bad, mark_good};
use fledge_core::diag::Failure;

use crate::admin::Admin;
use crate::status::{Row, Status};
use crate::sysroot::Sysroot;
use crate::{attempt, records};

/// What is said of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// Its boots aren't counted any more.
    Good,
    /// It isn't booted by itself any more.
    Bad,
    /// It is to be tried as if it were new.
    New,
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::New => "new",
        })
    }
}

/// Marks the deployment of a name, or the running one, and says which it was.
///
/// # Errors
/// There is no such deployment; what is known can't be read or written; or the running one, without its name, is called good while this
/// boot isn't healthy.
pub fn mark<'s>(
    sysroot: &Sysroot,
    admin: &Admin,
    status: &'s Status,
    name: Option<&str>,
    word: Word,
) -> Result<&'s Row, Failure> {
    let row = status.named(name.unwrap_or("running"))?;
    if let Some(why) = status.unhealthy().filter(|_| name.is_none() && word == Word::Good) {
        return Err(Failure::new(format!("marking {} as good", row.name()), why).remedy(
            "repair it; then `systemctl restart fledge-health` and `systemctl start fledge-bless`. To mark it all the same, name it: `fledgectl bless running`",
        ));
    }
    let records = sysroot.records()?;
    // One that is damaged may have been the override, and be it again for a bootloader that reads more of it.
    let overridden = || {
        sysroot.overridden().unwrap_or_else(|failure| {
            log::warn!("{failure}");
            true
        })
    };
    let overridden = word != Word::Bad && records.switched(&row.id) > 0 && overridden();
    let steps = match word {
        Word::Good => mark_good(&records, &row.id, overridden),
        Word::Bad => mark_bad(&records, &row.id),
        Word::New => forget(&records, &row.id, overridden),
    };
    records::carry_out(&steps, sysroot, admin)?;
    match word {
        // The mark alone doesn't tell once the boot file system is gone.
        Word::Good | Word::Bad if row.running => {
            sysroot.stop_counting(&format!("its deployment was marked as {word}, by a person"))?;
        }
        Word::New => set_aside(sysroot, &row.id),
        Word::Good | Word::Bad => {}
    }
    Ok(row)
}

/// What is kept of the tries of a deployment that is counted anew isn't mixed with what comes. It was written by this stateroot or its own.
fn set_aside(sysroot: &Sysroot, id: &Id) {
    let own = Sysroot::at(&sysroot.root).var(id.stateroot());
    for var in [sysroot.var(id.stateroot()), own] {
        if let Err(failure) = attempt::set_aside(&var.join(attempt::FOLDER), id) {
            log::warn!("{failure}");
        }
    }
}
