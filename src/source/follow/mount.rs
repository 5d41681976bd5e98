//! On what kind of file system a file lies: one of this machine, whose events and sizes can be relied on, or another.
//!
//! A kind that is not known to be of this machine counts as remote: it is looked at more carefully, and nothing is lost by that.
//!
//! Reads no file.

use std::fs::File;
use std::path::Path;

/// Where a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mount {
    /// On this machine.
    Local,
    /// Elsewhere, or on a file system that is not known: its name, if it has one here.
    Remote(&'static str),
}

/// Asks where files lie.
#[derive(Debug, Clone, Copy)]
pub struct Mounts {
    /// Where a path lies.
    pub of_path: fn(&Path) -> Mount,
    /// Where an open file lies.
    pub of_file: fn(&File) -> Mount,
}

impl Mounts {
    /// What the system says.
    pub const SYSTEM: Self = Self {
        of_path: system::of_path,
        of_file: system::of_file,
    };

    /// Everything lies elsewhere. For tests.
    pub const REMOTE: Self = Self {
        of_path: |_| Mount::Remote("test"),
        of_file: |_| Mount::Remote("test"),
    };
}

#[cfg(target_os = "linux")]
mod system {
    use super::{File, Mount, Path};

    /// What cannot be asked may as well be here: opening it will tell.
    pub(super) fn of_path(path: &Path) -> Mount {
        rustix::fs::statfs(path).map_or(Mount::Local, |stat| of_magic(magic(&stat)))
    }

    pub(super) fn of_file(file: &File) -> Mount {
        rustix::fs::fstatfs(file).map_or(Mount::Local, |stat| of_magic(magic(&stat)))
    }

    /// The type of the field differs between machines; the numbers have 32 bits.
    fn magic(stat: &rustix::fs::StatFs) -> u32 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::unnecessary_cast,
            reason = "a bit pattern of 32 bits in a field of another width"
        )]
        let magic = stat.f_type as u32;
        magic
    }

    /// The numbers of `statfs(2)` and of the kernel's `magic.h`.
    fn of_magic(magic: u32) -> Mount {
        match magic {
            0x0000_ef53 // ext2, ext3, ext4
            | 0x5846_5342 // xfs
            | 0x9123_683e // btrfs
            | 0x0102_1994 // tmpfs
            | 0x8584_58f6 // ramfs
            | 0x794c_7630 // overlay
            | 0x2fc1_2fc1 // zfs
            | 0xca45_1a4e // bcachefs
            | 0xf2f5_2010 // f2fs
            | 0x3153_464a // jfs
            | 0x5265_4973 // reiserfs
            | 0x0000_3434 // nilfs
            | 0x2405_1905 // ubifs
            | 0x0000_72b6 // jffs2
            | 0x0000_f15f // ecryptfs
            | 0x7371_7368 // squashfs
            | 0xe0f5_e1e2 // erofs
            | 0x0000_9660 // iso9660
            | 0x0000_4d44 // fat
            | 0x2011_bab0 // exfat
            | 0x7366_746e // ntfs3
            | 0x0000_482b // hfsplus
            => Mount::Local,
            0x0000_6969 => Mount::Remote("NFS"),
            0xff53_4d42 | 0xfe53_4d42 | 0x0000_517b => Mount::Remote("SMB"),
            0x0102_1997 => Mount::Remote("9p"),
            0x6573_5546 => Mount::Remote("FUSE"),
            0x00c3_6400 => Mount::Remote("Ceph"),
            0x5346_414f => Mount::Remote("AFS"),
            0x0bd0_0bd0 => Mount::Remote("Lustre"),
            0x4750_4653 => Mount::Remote("GPFS"),
            0x786f_4256 => Mount::Remote("a VirtualBox share"),
            _ => Mount::Remote("a file system that is not known here"),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn kinds_are_told_apart_and_the_unknown_is_treated_as_remote() {
            assert_eq!(of_magic(0xef53), Mount::Local);
            assert_eq!(of_magic(0x6969), Mount::Remote("NFS"));
            assert!(matches!(of_magic(1), Mount::Remote(_)));
            let here = tempfile::tempfile().expect("a file");
            let dir = std::env::temp_dir();
            assert_eq!(of_file(&here), of_path(&dir));
            assert_eq!(of_path(Path::new("/no/such/file")), Mount::Local);
        }
    }
}

/// Other systems give events for their shares or are looked at anyway; their sizes are taken as they are.
#[cfg(not(target_os = "linux"))]
mod system {
    use super::{File, Mount, Path};

    pub(super) fn of_path(_path: &Path) -> Mount {
        Mount::Local
    }

    pub(super) fn of_file(_file: &File) -> Mount {
        Mount::Local
    }
}
