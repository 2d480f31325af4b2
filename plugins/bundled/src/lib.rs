//! The bundled plugins, built from this repository and embedded: what `netloomd` runs when nothing else is
//! configured.
//!
//! They have no privilege. The host loads them as it loads any other component.

/// One bundled plugin.
#[derive(Clone, Copy, Debug)]
pub struct Bundled {
    /// Its name: that of the hook it serves.
    pub name: &'static str,
    /// The component's bytes.
    pub component: &'static [u8],
}

/// Every bundled plugin.
pub const PLUGINS: &[Bundled] = include!(concat!(env!("OUT_DIR"), "/plugins.rs"));

#[cfg(test)]
mod tests {
    use netloom_plugin_build::interfaces;

    use super::*;

    #[test]
    fn each_serves_the_hook_it_is_named_after() {
        let names: Vec<&str> = PLUGINS.iter().map(|plugin| plugin.name).collect();
        assert_eq!(names, ["attach-order", "datapath-mode", "socket-reap"]);
        for plugin in PLUGINS {
            let hook = format!("netloom:policy/{}@0.1.0", plugin.name);
            let mut wanted = [hook.as_str(), "netloom:policy/lifecycle@0.1.0"];
            wanted.sort_unstable();
            assert_eq!(interfaces(plugin.component).unwrap().exports, wanted, "{}", plugin.name);
        }
    }

    #[test]
    fn none_needs_a_grant() {
        for plugin in PLUGINS {
            let imports = interfaces(plugin.component).unwrap().imports;
            assert_eq!(
                imports,
                ["netloom:kernel/log@0.1.0", "netloom:kernel/types@0.1.0"],
                "{}",
                plugin.name
            );
        }
    }

    #[test]
    fn none_holds_a_path_of_the_machine_it_was_built_on() {
        let home = std::env::home_dir().unwrap();
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let here = std::fs::canonicalize(here).unwrap();
        for plugin in PLUGINS {
            for path in [home.join(".cargo"), here.clone(), "/usr/lib/rustlib".into()] {
                let path = path.to_str().unwrap().as_bytes();
                let found = plugin.component.windows(path.len()).any(|window| window == path);
                assert!(!found, "{} holds {}", plugin.name, String::from_utf8_lossy(path));
            }
        }
    }
}
