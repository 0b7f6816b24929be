//! Sets files aside that cannot be used: beside the others, under another name.

use std::io::{self, ErrorKind};

use tracing::error;

use super::disk::Disk;
use super::name::Name;
use super::work::Work;

/// So many chunks of one name may be set aside.
const MOST_BROKEN: usize = 100;

/// Gives the file a second name under which it is kept.
pub fn link_aside(disk: &dyn Disk, file: &str) -> io::Result<String> {
    for number in 1..=MOST_BROKEN {
        let aside = match number {
            1 => format!("{file}.broken"),
            _ => format!("{file}.broken.{number}"),
        };
        match disk.link(file, &aside) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            done => return done.map(|()| aside),
        }
    }
    Err(io::Error::other(
        "too many chunks of this name were set aside",
    ))
}

/// A chunk of which nothing goes on: data and metadata get other names.
pub fn put_aside(work: &Work, name: &Name, reason: &str) {
    let disk = &*work.disk;
    let mut aside = Err(io::Error::from(ErrorKind::NotFound));
    for file in [name.data(), name.meta()] {
        let moved = link_aside(disk, &file).and_then(|aside| disk.remove(&file).map(|()| aside));
        if file == name.data() {
            aside = moved;
        }
    }
    let (path, file) = (&work.options.path, name.data());
    match aside.and_then(|aside| disk.sync_directory().map(|()| aside)) {
        Ok(aside) => error!(
            path,
            file,
            err_msg = reason,
            set_aside = aside,
            "found broken chunk file during resume. it is kept aside"
        ),
        Err(error) => {
            error!(path, file, err_msg = reason, %error, "found broken chunk file during resume. it stays where it is")
        }
    }
}
