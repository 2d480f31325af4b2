//! What a path in a source means: the module that it leads to, through imports and re-exports.

use super::modules::{Crate, ModulePath, Use};

/// How many imports a name may come through; only names that are imported in a circle come through more.
const DEPTH: usize = 8;

/// What a path leads to.
enum Target {
    Module(ModulePath),
    /// Something that is defined in a module.
    Item(ModulePath, String),
}

impl Crate {
    /// The first module on the way of a path that is not around the one in which the path stands, so that a re-export
    /// by a parent is followed, and one by a sibling is an import of that sibling. If there is none, where the path ends;
    /// nothing for other crates.
    pub(super) fn imported(&self, at: &[String], path: &[String]) -> Option<ModulePath> {
        match self.walk(at, path, &|here| !at.starts_with(here), DEPTH)? {
            Target::Module(module) | Target::Item(module, _) => Some(module),
        }
    }

    /// The module that defines what a path names, and how it is called there.
    pub(super) fn defined(&self, at: &[String], path: &[String]) -> Option<(ModulePath, String)> {
        match self.walk(at, path, &|_| false, DEPTH)? {
            Target::Item(module, name) => Some((module, name)),
            Target::Module(_) => None,
        }
    }

    fn walk(
        &self,
        at: &[String],
        path: &[String],
        enough: &dyn Fn(&[String]) -> bool,
        depth: usize,
    ) -> Option<Target> {
        let depth = depth.checked_sub(1)?;
        let mut here = at.to_vec();
        for (position, segment) in path.iter().enumerate() {
            match segment.as_str() {
                "crate" => here.clear(),
                "self" => {}
                "super" => drop(here.pop()),
                _ if enough(&here) => break,
                name => {
                    let (module, child) = (self.modules.get(&here)?, join(&here, name));
                    if self.modules.contains_key(&child) {
                        here = child;
                    } else if module.names.contains(name) {
                        return Some(Target::Item(here, name.to_owned()));
                    } else if let Some(path) = self.origin(&here, name, depth) {
                        match self.walk(&here, &path, enough, depth)? {
                            Target::Module(module) => here = module,
                            item @ Target::Item(..) => return Some(item),
                        }
                    } else {
                        // What a macro made, or another crate's name.
                        return (position > 0).then(|| Target::Item(here, name.to_owned()));
                    }
                }
            }
        }
        Some(Target::Module(here))
    }

    /// The path by which a module imports a name.
    fn origin(&self, here: &[String], name: &str, depth: usize) -> Option<Vec<String>> {
        let uses = || self.modules.get(here).into_iter().flat_map(|module| &module.uses);
        let explicit = uses().find(|used| used.name.as_deref() == Some(name));
        explicit.map(|used| used.path.clone()).or_else(|| self.origin_among(uses(), here, name, depth))
    }

    /// The path by which a module imports a name together with all others of a module.
    fn origin_among<'a>(
        &self,
        uses: impl Iterator<Item = &'a Use>,
        here: &[String],
        name: &str,
        depth: usize,
    ) -> Option<Vec<String>> {
        let depth = depth.checked_sub(1)?;
        let mut globs = uses.filter(|used| used.name.is_none() && self.is_ours(here, &used.path));
        let having = globs.find(|glob| {
            let target = self.walk(here, &glob.path, &|_| false, depth);
            matches!(target, Some(Target::Module(module)) if self.exports(&module, name, depth))
        });
        having.map(|glob| join(&glob.path, name))
    }

    fn exports(&self, path: &[String], name: &str, depth: usize) -> bool {
        let Some(module) = self.modules.get(path) else { return false };
        let exported = || module.uses.iter().filter(|used| used.is_exported);
        self.modules.contains_key(&join(path, name))
            || module.names.contains(name)
            || exported().any(|used| used.name.as_deref() == Some(name))
            || self.origin_among(exported(), path, name, depth).is_some()
    }

    /// Whether a path begins in this crate, as far as one sees without looking at imports.
    fn is_ours(&self, here: &[String], path: &[String]) -> bool {
        path.first().is_some_and(|first| {
            matches!(first.as_str(), "crate" | "self" | "super")
                || self.modules.contains_key(&join(here, first))
        })
    }
}

fn join(path: &[String], name: &str) -> Vec<String> {
    [path, &[name.to_owned()]].concat()
}
