//! One process owns the files of a buffer.

use std::fs::{
    DirBuilder, File, OpenOptions, Permissions, TryLockError, set_permissions, symlink_metadata,
};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use nix::fcntl::OFlag;

/// Makes the directory where it is missing, and refuses one that is not safely ours.
pub fn prepare(directory: &Path, mode: u32) -> anyhow::Result<()> {
    let shown = directory.display();
    if let Err(error) = symlink_metadata(directory) {
        if error.kind() != ErrorKind::NotFound {
            return Err(error).with_context(|| format!("cannot use buffer directory {shown}"));
        }
        let make = DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(directory);
        make.with_context(|| format!("cannot create buffer directory {shown}"))?;
        // The umask has had its say; what is configured counts.
        let set = set_permissions(directory, Permissions::from_mode(mode));
        set.with_context(|| format!("cannot set the mode of buffer directory {shown}"))?;
    }
    let found = symlink_metadata(directory)
        .with_context(|| format!("cannot use buffer directory {shown}"))?;
    ensure!(
        !found.file_type().is_symlink(),
        "buffer directory {shown} is a symbolic link: give the path that it leads to"
    );
    ensure!(found.is_dir(), "buffer path {shown} is no directory");
    let shared = found.permissions().mode() & 0o1002 == 0o002;
    ensure!(
        !shared,
        "buffer directory {shown} can be written by everybody: chmod o-w {shown}"
    );
    Ok(())
}

/// Takes the lock. It is held as long as the file is open; the file stays.
pub fn take(directory: &Path, name: &str) -> anyhow::Result<File> {
    let path = directory.join(name);
    let shown = path.display();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(&path)
        .with_context(|| format!("cannot open lock file {shown}"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Whoever holds it may not have written its id yet.
            let _ = file.read_to_string(&mut owner);
            let owner = match owner.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            bail!(
                "buffer directory {} is in use by {owner} (lock file {shown})",
                directory.display()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {shown}"));
        }
    }
    let written = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    // The id is for the next one's message only; a full disk does not keep us from starting.
    let _ = written;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_and_told_who_the_first_is() {
        let place = tempfile::tempdir().expect("a directory");
        let first = take(place.path(), "buffer.lock").expect("free");
        let error = take(place.path(), "buffer.lock")
            .expect_err("taken")
            .to_string();
        let pid = std::process::id();
        assert!(
            error.contains(&format!("is in use by process {pid}")),
            "{error}"
        );
        drop(first);
        take(place.path(), "buffer.lock").expect("free again");
    }

    #[test]
    fn a_link_a_file_and_a_directory_for_everybody_are_refused() {
        let place = tempfile::tempdir().expect("a directory");
        let refusal = |path: &Path| prepare(path, 0o700).expect_err("refused").to_string();
        let real = place.path().join("real");
        prepare(&real, 0o700).expect("made");
        let mode =
            |path: &Path| symlink_metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&real), 0o700);
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        assert!(refusal(&link).contains("is a symbolic link"));
        let file = place.path().join("file");
        std::fs::write(&file, "").expect("a file");
        assert!(refusal(&file).contains("is no directory"));
        set_permissions(&real, Permissions::from_mode(0o777)).expect("chmod");
        assert!(refusal(&real).contains("can be written by everybody"));
    }
}
