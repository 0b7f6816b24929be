//! Maps and sets of paths in the order of their bytes.
//!
//! The standard library compares paths component by component, which for a thousand files in one directory is a third of all the work of
//! a line. Here a path is brought into its plain form once (`/var//log/./a.log` is `/var/log/a.log`), and then compared as bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::ffi::{OsStr, OsString};
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is known by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMap<T>(BTreeMap<OsString, T>);

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathSet(PathMap<()>);

/// The form in which equal paths have equal bytes.
fn plain(path: &Path) -> Cow<'_, OsStr> {
    let bytes = path.as_os_str().as_bytes();
    let is_odd = |two: &[u8]| two == b"//" || two == b"/.";
    match bytes.windows(2).any(is_odd) || bytes.ends_with(b"/") {
        true => Cow::Owned(path.components().collect::<PathBuf>().into_os_string()),
        false => Cow::Borrowed(path.as_os_str()),
    }
}

impl<T> Default for PathMap<T> {
    fn default() -> PathMap<T> {
        PathMap(BTreeMap::new())
    }
}

impl<T> PathMap<T> {
    /// What is known of this path.
    pub fn get(&self, path: &Path) -> Option<&T> {
        self.0.get(&*plain(path))
    }

    /// The same, to change.
    pub fn get_mut(&mut self, path: &Path) -> Option<&mut T> {
        self.0.get_mut(&*plain(path))
    }

    /// Whether something is known of it.
    pub fn contains_key(&self, path: &Path) -> bool {
        self.0.contains_key(&*plain(path))
    }

    /// Puts it in place of what was known.
    pub fn insert(&mut self, path: &Path, value: T) -> Option<T> {
        self.0.insert(plain(path).into_owned(), value)
    }

    /// Takes it out.
    pub fn remove(&mut self, path: &Path) -> Option<T> {
        self.0.remove(&*plain(path))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The paths.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Path> + Clone {
        self.0.keys().map(Path::new)
    }

    /// What is known of them.
    pub fn values(&self) -> btree_map::Values<'_, OsString, T> {
        self.0.values()
    }

    /// The same, to change.
    pub fn values_mut(&mut self) -> btree_map::ValuesMut<'_, OsString, T> {
        self.0.values_mut()
    }

    /// Paths and what is known of them, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Path, &mut T)> {
        let all = self.0.iter_mut();
        all.map(|(path, value)| (Path::new(path), value))
    }

    /// The paths that come after this one.
    pub fn keys_behind(&self, path: &Path) -> impl Iterator<Item = &Path> {
        let behind = (Bound::Excluded(&*plain(path)), Bound::Unbounded);
        let found = self.0.range::<OsStr, _>(behind);
        found.map(|(path, _)| Path::new(path))
    }

    /// Drops what this says no to.
    pub fn retain(&mut self, mut keep: impl FnMut(&Path, &mut T) -> bool) {
        self.0.retain(|path, value| keep(Path::new(path), value));
    }
}

impl PathSet {
    /// Whether it is in it.
    pub fn contains(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Puts it in.
    pub fn insert(&mut self, path: &Path) {
        self.0.insert(path, ());
    }

    /// Takes it out.
    pub fn remove(&mut self, path: &Path) {
        self.0.remove(path);
    }

    /// The paths.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.0.keys()
    }

    /// Drops what this says no to.
    pub fn retain(&mut self, mut keep: impl FnMut(&Path) -> bool) {
        self.0.retain(|path, ()| keep(path));
    }

    /// The paths, taken out.
    pub fn into_paths(self) -> impl Iterator<Item = PathBuf> {
        self.0.0.into_keys().map(PathBuf::from)
    }
}

impl<P: AsRef<Path>> Extend<P> for PathSet {
    fn extend<I: IntoIterator<Item = P>>(&mut self, paths: I) {
        paths
            .into_iter()
            .for_each(|path| self.insert(path.as_ref()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Paths that the standard library takes for equal are one here, and no others.
        #[test]
        fn equal_paths_are_one(one in "/?([a.]{0,2}/{0,2}){0,4}", other in "/?([a.]{0,2}/{0,2}){0,4}") {
            let (one, other) = (Path::new(&one), Path::new(&other));
            prop_assert_eq!(plain(one) == plain(other), one == other, "{:?} {:?}", one, other);
        }
    }

    #[test]
    fn the_next_paths_are_those_behind() {
        let mut set = PathMap::default();
        for path in ["/b", "/a/x", "/a//y"] {
            set.insert(Path::new(path), ());
        }
        let behind: Vec<&Path> = set.keys_behind(Path::new("/a/x")).collect();
        assert_eq!(behind, [Path::new("/a/y"), Path::new("/b")]);
    }
}
