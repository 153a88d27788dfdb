// SPDX-License-Identifier: Apache-2.0
use super::*;

#[test]
fn a_power_cut_between_the_writes_of_a_table_loses_no_partition() {
    // The first rewrite gives the disk its GUID, the second grows the root.
    let mut whole = image_bytes(200 * MIB, IMAGES);
    rewrite(&mut whole, 4);
    let named = whole.clone();
    rewrite(&mut whole, 4);
    assert_ne!(read(&named).table, read(&whole).table);
    for start in [image_bytes(200 * MIB, IMAGES), named] {
        for regions in 0..4 {
            let mut bytes = start.clone();
            rewrite(&mut bytes, regions);
            assert_eq!(read(&bytes).table.partitions.len(), 2, "{regions}");
            // One for each of the two, and one for what was cut off.
            for _ in 0..3 {
                rewrite(&mut bytes, 4);
            }
            assert_eq!(read(&bytes), read(&whole), "{regions}");
        }
    }
}

const IMAGES: &str = "00000000-0000-4000-a000-000000000001";

#[test]
fn the_boot_disk_gets_its_own_guid_and_its_second_table_moves_to_the_end() {
    let lines = [(100, OWN), (100, IMAGES), (200, OWN), (200, IMAGES)]
        .map(|(mebibytes, guid)| identity::disk(&identity_of(mebibytes * MIB, guid)).unwrap().to_string());
    let upper = OWN.to_uppercase();
    assert_eq!(
        lines,
        [
            "   - nothing is left to do\n".to_owned(),
            format!("   1 write the partition table of /dev/vda, with the GUID {upper}\n"),
            "   1 write the partition table of /dev/vda, its second copy at the end of the disk\n".into(),
            format!(
                "   1 write the partition table of /dev/vda, with the GUID {upper}, its second copy at the end of the disk\n"
            ),
        ]
    );
    let plan = identity::disk(&identity_of(200 * MIB, IMAGES)).unwrap();
    let [IdentityStep::Table { table, .. }] = plan.steps.as_slice() else { panic!() };
    assert_eq!((table.last, table.backup_array), (200 * MIB - 34, 200 * MIB - 33));
    assert_eq!(table.partitions, image(200 * MIB, IMAGES).table.partitions);

    let broken = identity::Disk { holds: Found::Broken("it is damaged".into()), ..identity_of(100 * MIB, OWN) };
    assert!(identity::disk(&broken).unwrap_err().to_string().contains("/dev/vda: it is damaged"));
    let flawed = |flaw: &str| {
        let gpt = Gpt { flaws: vec![flaw.into()], ..image(100 * MIB, OWN) };
        identity::disk(&identity::Disk { holds: Found::Gpt(gpt), ..identity_of(100 * MIB, OWN) })
    };
    let repaired = flawed("its second copy is damaged").unwrap().to_string();
    assert_eq!(repaired, "   1 write the partition table of /dev/vda; its second copy is damaged\n");
    assert!(flawed(gpt::LONE).unwrap_err().to_string().contains(gpt::LONE));
    for holds in [Found::Nothing, Found::Mbr] {
        let plan = identity::disk(&identity::Disk { holds, ..identity_of(100 * MIB, OWN) }).unwrap();
        assert_eq!(plan.to_string(), "   - /dev/vda has no GPT: it stays as it is\n");
    }
}

#[test]
fn metadata_of_an_array_at_the_end_of_a_disk_are_written_over_by_fresh_images_alone() {
    let member = Some("an array of Intel's firmware".to_owned());
    let of = |sectors: u64, guid: &str| {
        let disk = identity::Disk { member: member.clone(), ..identity_of(sectors, guid) };
        identity::disk(&disk).unwrap()
    };
    let plan = of(200 * MIB, OWN);
    assert_eq!(plan.steps, []);
    assert!(plan.to_string().contains("/dev/vda ends with the metadata of an array of Intel's firmware"), "{plan}");
    assert_eq!(of(200 * MIB, IMAGES).steps.len(), 1);

    let mut facts = grow_facts(200 * MIB);
    facts.disks[0].member = member;
    assert_eq!(
        grow::plan(&facts).unwrap().to_string(),
        "   - the disk ends with the metadata of an array of Intel's firmware: partition 4 of /dev/vda stays\n"
    );
}

#[test]
fn a_disk_with_an_mbr_and_what_is_left_of_an_older_table_stays() {
    let mut bytes = image_bytes(100 * MIB, OWN);
    // A partition of Linux, in front of the second copy.
    bytes[..512 * 34].fill(0);
    bytes[450] = 0x83;
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let holds = found(&bytes);
    assert_eq!(holds, Found::Mbr);
    let mut facts = grow_facts(100 * MIB);
    facts.disks[0].holds = holds;
    assert_eq!(grow::plan(&facts).unwrap().to_string(), "   - no GPT: partition 4 of /dev/vda stays\n");
}

#[test]
fn only_the_uuids_of_the_image_change() {
    let on = |format: &str, uuid: &str, cmdline: &str| {
        let of = FileSystem { node: "/dev/vda4".into(), format: format.into(), uuid: uuid.into() };
        identity::file_system(&of, OWN, &Cmdline::parse(cmdline)).to_string()
    };
    let plan = |format: &str, uuid: &str| on(format, uuid, "root=LABEL=root");
    let named = on("xfs", IMAGE[1], &format!("root=UUID={}", IMAGE[1]));
    assert!(named.contains("the command line has the UUID"), "{named}");
    for format in ["ext4", "xfs", "btrfs"] {
        assert_eq!(plan(format, IMAGE[1]), format!("   1 change the UUID of the {format} on /dev/vda4 to {OWN}\n"));
    }
    for (format, uuid) in [("ext4", ROOT), ("xfs", ""), ("squashfs", IMAGE[0])] {
        assert_eq!(plan(format, uuid), "   - nothing is left to do\n");
    }
}
