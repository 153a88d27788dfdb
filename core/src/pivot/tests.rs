// SPDX-License-Identifier: Apache-2.0
use alloc::string::ToString;
use alloc::vec;

use super::*;

fn facts() -> Facts {
    Facts {
        root: "/sysroot".into(),
        deployment: "/ostree/deploy/nestos/deploy/abc.0".into(),
        identity: (2052, 131),
        writable: true,
        repository_is_readonly: false,
        image: false,
        hotfix: false,
        own_boot: false,
        var: false,
        device: Some((8, 4)),
        form: Form::NEWEST,
        unique: "1a2b3c".into(),
    }
}

fn print(settings: Settings, facts: &Facts) -> String {
    plan(settings, facts).unwrap().to_string()
}

fn booted(settings: Settings, facts: &Facts) -> (u32, Vec<u8>) {
    let steps = plan(settings, facts).unwrap().steps;
    let file = |step| match step {
        Step::File { path, mode, bytes } if path == BOOTED => Some((mode, bytes)),
        _ => None,
    };
    steps.into_iter().find_map(file).unwrap()
}

const COMPOSEFS: Settings =
    Settings { composefs: Composefs::Yes, verity: false, readonly: None, transient_etc: false, root: Root::Plain };

#[test]
fn a_writable_physical_root_needs_no_mounts_of_its_own_for_etc_and_var() {
    let expected = "   1 make the folder /run/ostree with mode 0755
   2 make the folder /run/ostree/.private with mode 0000
   3 take all mounts out of propagation
   4 make the folder /sysroot.tmp with mode 0755
   5 work in /sysroot/ostree/deploy/nestos/deploy/abc.0
   6 bind /sysroot/ostree/deploy/nestos/deploy/abc.0 to /sysroot.tmp
   7 bind /sysroot.tmp/usr to /sysroot.tmp/usr
   8 make /sysroot.tmp/usr read-only
   9 bind /sysroot to /sysroot.tmp/sysroot
  10 detach /sysroot
  11 work in /sysroot.tmp/sysroot/ostree/deploy/nestos/deploy/abc.0
  12 write /run/ostree-booted (136 bytes)
  13 move /sysroot.tmp to /sysroot
  14 work in /sysroot
  15 remove the folder /sysroot.tmp
";
    assert_eq!(print(Settings::default(), &facts()), expected);
}

#[test]
fn a_read_only_physical_root_leaves_etc_and_var_writable() {
    let expected = "   1 make the folder /run/ostree with mode 0755
   2 make the folder /run/ostree/.private with mode 0000
   3 take all mounts out of propagation
   4 make the folder /sysroot.tmp with mode 0755
   5 work in /sysroot/ostree/deploy/nestos/deploy/abc.0
   6 bind /sysroot/ostree/deploy/nestos/deploy/abc.0 to /sysroot.tmp
   7 bind etc to /sysroot.tmp/etc
   8 make /sysroot.tmp/etc writable
   9 bind /sysroot.tmp/usr to /sysroot.tmp/usr
  10 make /sysroot.tmp/usr read-only
  11 bind /sysroot to /sysroot.tmp/sysroot
  12 detach /sysroot
  13 work in /sysroot.tmp/sysroot/ostree/deploy/nestos/deploy/abc.0
  14 bind ../../var to ../../var
  15 make ../../var writable
  16 write /run/ostree-booted (136 bytes)
  17 move /sysroot.tmp to /sysroot
  18 work in /sysroot
  19 remove the folder /sysroot.tmp
  20 make /sysroot/sysroot read-only
";
    let by_file = Settings { readonly: Some(true), ..Settings::default() };
    assert_eq!(print(by_file, &facts()), expected);
    let by_repository = Facts { repository_is_readonly: true, ..facts() };
    assert_eq!(print(Settings::default(), &by_repository), expected);
    let both = Settings { readonly: Some(false), ..Settings::default() };
    assert_eq!(print(both, &by_repository), expected, "the file can't take back what the repository asks for");
}

#[test]
fn a_composefs_root_is_read_only_and_brings_its_own_usr() {
    let plain = facts();
    let facts = Facts { image: true, ..facts() };
    let expected = "   1 make the folder /run/ostree with mode 0755
   2 make the folder /run/ostree/.private with mode 0000
   3 take all mounts out of propagation
   4 make the folder /sysroot.tmp with mode 0755
   5 work in /sysroot/ostree/deploy/nestos/deploy/abc.0
   6 make the folder /run/ostree/.private/cfsroot-lower with mode 0700
   7 check the image /sysroot/ostree/deploy/nestos/deploy/abc.0/.ostree.cfs by fs-verity
   8 mount the composefs image /sysroot/ostree/deploy/nestos/deploy/abc.0/.ostree.cfs over /sysroot/ostree/repo/objects at /sysroot.tmp, read-only, and check every file by fs-verity
   9 make the folder /run/systemd with mode 0755
  10 link /run/systemd/volatile-root to /dev/block/8:4
  11 bind etc to /sysroot.tmp/etc
  12 make /sysroot.tmp/etc writable
  13 bind /sysroot to /sysroot.tmp/sysroot
  14 detach /sysroot
  15 work in /sysroot.tmp/sysroot/ostree/deploy/nestos/deploy/abc.0
  16 bind ../../var to ../../var
  17 make ../../var writable
  18 write /run/ostree-booted (194 bytes)
  19 move /sysroot.tmp to /sysroot
  20 work in /sysroot
  21 remove the folder /sysroot.tmp
  22 make /sysroot/sysroot read-only
";
    assert_eq!(print(Settings { verity: true, ..COMPOSEFS }, &facts), expected);
    let maybe = Settings { composefs: Composefs::Maybe, ..COMPOSEFS };
    assert!(!print(maybe, &facts).contains("make /sysroot/sysroot read-only"), "only yes implies it");
    assert!(
        !print(Settings { readonly: Some(false), ..COMPOSEFS }, &facts).contains("make /sysroot/sysroot read-only")
    );
    assert_eq!(print(maybe, &plain), print(Settings::default(), &plain));
}

#[test]
fn what_the_deployment_has_not_is_refused() {
    let failure = plan(COMPOSEFS, &facts()).unwrap_err();
    assert!(failure.why.contains("abc.0 has no .ostree.cfs"), "{failure}");
    assert!(failure.remedy.unwrap().contains("composefs=maybe"));
    let checked = plan(Settings { verity: true, ..COMPOSEFS }, &facts()).unwrap_err();
    assert!(!checked.remedy.unwrap().contains("maybe"), "which would check nothing");
    let transient = Settings { root: Root::Transient, ..Settings::default() };
    let failure = plan(transient, &facts()).unwrap_err();
    assert!(failure.why.contains("only a composefs root can be transient, and composefs is off"), "{failure}");
    let failure = plan(Settings { composefs: Composefs::Maybe, ..transient }, &facts()).unwrap_err();
    assert!(failure.why.ends_with("abc.0 has no .ostree.cfs"), "{failure}");
    assert!(!failure.remedy.unwrap().contains("composefs.enabled"), "it is set");
}

#[test]
fn changes_of_a_transient_root_and_etc_stay_in_memory() {
    let facts = Facts { image: true, ..facts() };
    let text = print(Settings { root: Root::Transient, transient_etc: true, ..COMPOSEFS }, &facts);
    for line in [
        "at /sysroot.tmp, writable, with changes in /run/ostree/.private/root\n",
        "lay /run/ostree/transient-etc.1a2b3c/upper over /sysroot.tmp/usr/etc at /sysroot.tmp/etc\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("bind etc"), "{text}");
    let readonly = plan(Settings { root: Root::TransientReadOnly, ..COMPOSEFS }, &facts).unwrap().to_string();
    assert!(readonly.contains("read-only, with changes in"), "{readonly}");
}

#[test]
fn an_old_ostree_gets_what_it_expects() {
    let form = Form { transient_ro: false, unique_etc: false, volatile_root: false, ..Form::NEWEST };
    let debian13 = Facts { form, own_boot: true, ..facts() };
    let settings = Settings { readonly: Some(true), transient_etc: true, ..Settings::default() };
    let text = print(settings, &debian13);
    assert!(text.contains("bind /sysroot/boot to /sysroot.tmp/boot\n"), "{text}");
    assert!(text.contains("lay /run/ostree/transient-etc/upper over usr/etc at"), "{text}");
    let (mode, bytes) = booted(settings, &debian13);
    let expected = serialize(&[
        ("backing-root-device-inode", Value::Pair(2052, 131)),
        ("root.transient", Value::Boolean(false)),
        ("sysroot-ro", Value::Boolean(true)),
        ("transient-etc", Value::Text("/run/ostree/transient-etc")),
    ]);
    assert_eq!((mode, bytes), (0o644, expected));

    let nestos = Facts { form: Form::of(b"/run/ostree-booted\0"), ..facts() };
    assert_eq!(booted(settings, &nestos), (0o640, vec![]));
    let stamp = "write /run/ostree-sysroot-ro.stamp (0 bytes)\n";
    assert!(print(settings, &nestos).contains(stamp));
    assert!(!print(Settings::default(), &nestos).contains(stamp));
}

#[test]
fn a_hotfix_is_laid_over_usr_and_var_is_bound_where_it_is_asked_for() {
    let facts = Facts { hotfix: true, var: true, ..facts() };
    let text = print(Settings::default(), &facts);
    assert!(text.contains("lay .usr-ovl-upper over /sysroot.tmp/usr at /sysroot.tmp/usr\n"), "{text}");
    assert!(!text.contains("bind /sysroot.tmp/usr"), "{text}");
    assert!(text.contains("bind ../../var to /sysroot.tmp/var\n"), "{text}");
    assert!(text.contains("let mounts come to /sysroot.tmp/var and none go from there\n"), "{text}");
}

#[test]
fn a_hotfix_needs_a_writable_physical_root() {
    let facts = Facts { hotfix: true, writable: false, ..facts() };
    let failure = plan(Settings::default(), &facts).unwrap_err();
    assert!(failure.why.contains("/sysroot is mounted read-only"), "{failure}");
    assert_eq!(failure.remedy.as_deref(), Some("add rw to the kernel arguments"));

    let form = Form { remount: true, ..Form::of(b"/run/ostree-booted\0") };
    let expected = "   1 make the folder /run/ostree with mode 0755
   2 make the folder /run/ostree/.private with mode 0000
   3 take all mounts out of propagation
   4 make the folder /sysroot.tmp with mode 0755
   5 make the file system at /sysroot writable
   6 work in /sysroot/ostree/deploy/nestos/deploy/abc.0
   7 bind /sysroot/ostree/deploy/nestos/deploy/abc.0 to /sysroot.tmp
   8 lay .usr-ovl-upper over /sysroot.tmp/usr at /sysroot.tmp/usr
   9 bind /sysroot to /sysroot.tmp/sysroot
  10 detach /sysroot
  11 work in /sysroot.tmp/sysroot/ostree/deploy/nestos/deploy/abc.0
  12 write /run/ostree-booted (0 bytes)
  13 move /sysroot.tmp to /sysroot
  14 work in /sysroot
  15 remove the folder /sysroot.tmp
";
    assert_eq!(print(Settings::default(), &Facts { form, ..facts.clone() }), expected);
    let writable = print(Settings::default(), &Facts { form, writable: true, ..facts });
    assert!(!writable.contains("make the file system"), "{writable}");
}
