//! The names of all figures: what a bench may report, and what the documentation may name.

/// Chains' lengths, and what is measured on each.
const ATTACH: [&str; 3] = ["0", "8", "62"];
const ATTACH_EACH: [&str; 5] =
    ["attach_N", "read_N", "decide_N", "read_N_instructions", "decide_N_instructions"];
const ATTACH_ONCE: [&str; 8] = [
    "update_8",
    "attach_api",
    "attach_api_cpu",
    "attach_load",
    "attach_commit",
    "endpoints_1000_idle_cpu",
    "services_10k_apply",
    "services_10k_rss",
];
/// Numbers of endpoints, and what is measured with each.
const ENDPOINTS: [&str; 3] = ["250", "500", "1000"];
const ENDPOINTS_EACH: [&str; 2] = ["endpoints_N_rss", "adopt_N"];

const PLUGIN: [&str; 13] = [
    "load_cached",
    "load_compiling",
    "decision_p50",
    "decision_p99",
    "decision_native",
    "instantiate",
    "noisy_neighbour",
    "noise_cpu",
    "plugins_100_rss",
    "decision_c",
    "decision_go",
    "decision_javascript",
    "decision_python",
];

/// Numbers of sockets, and what is measured among as many.
const SOCKETS: [&str; 5] = ["10k", "100k", "1m", "tcp_10k", "tcp_100k"];
const SOCKETS_EACH: [&str; 5] = ["find_N", "end_to_end_N", "client_read_N", "sock_diag_N", "ss_N"];
const REAP_ONCE: [&str; 6] = [
    "destroy_10k",
    "judge_packed",
    "judge_record",
    "connect_overhead_tcp",
    "connect_overhead_udp",
    "bound_socket_bytes",
];

/// All figures that a bench reports.
pub(crate) fn of(bench: &str) -> Vec<String> {
    match bench {
        "attach" => [
            each(&ATTACH_EACH, &ATTACH),
            each(&ENDPOINTS_EACH, &ENDPOINTS),
            ATTACH_ONCE.map(str::to_owned).to_vec(),
        ]
        .concat(),
        "datapath" => crate::datapath::figures(),
        "plugin" => PLUGIN.map(str::to_owned).to_vec(),
        "reap" => [each(&SOCKETS_EACH, &SOCKETS), REAP_ONCE.map(str::to_owned).to_vec()].concat(),
        _ => Vec::new(),
    }
}

/// Each of these names with each of these sizes in the place of its N.
fn each(names: &[&str], sizes: &[&str]) -> Vec<String> {
    names.iter().flat_map(|name| sizes.iter().map(move |size| name.replace('N', size))).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    const BENCHES: [&str; 4] = ["attach", "datapath", "plugin", "reap"];
    const PAGE: &str = "docs/benchmarks.md";
    const CLAIMS: &str = "## Which figure supports which claim";

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn text(file: &str) -> String {
        fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// A text whose lines are broken anywhere.
    fn flat(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn reported() -> BTreeSet<String> {
        BENCHES.iter().flat_map(|bench| of(bench)).collect()
    }

    /// What stands between backquotes.
    fn quoted(text: &str) -> Vec<&str> {
        text.split('`').skip(1).step_by(2).collect()
    }

    /// Those names in a text that look like figures' names: their first word is one's, and there is a second.
    fn named(text: &str) -> Vec<&str> {
        let first = |name: &str| name.split('_').next().unwrap_or_default().to_owned();
        let firsts: BTreeSet<String> = reported().iter().map(|name| first(name)).collect();
        let plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let looks = |name: &&str| name.contains('_') && firsts.contains(&first(name));
        quoted(text).into_iter().filter(plain).filter(looks).collect()
    }

    fn unknown(text: &str) -> Vec<&str> {
        let reported = reported();
        named(text).into_iter().filter(|name| !reported.contains(*name)).collect()
    }

    /// A row of the page's table of claims.
    struct Claim {
        says: String,
        file: String,
        figures: Vec<String>,
    }

    fn claims(page: &str) -> Vec<Claim> {
        let chapter = page.split(CLAIMS).nth(1).expect("the page has the chapter");
        let table = chapter.lines().skip_while(|line| !line.starts_with("|---"));
        let rows = table.skip(1).take_while(|line| line.starts_with('|'));
        let claim = |row: &str| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [says, file, figures, _] = cells[..] else { panic!("not four cells: {row}") };
            let link = file.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
            let file = link.unwrap_or_else(|| panic!("no link to a file: {row}"));
            let figures = quoted(figures).into_iter().map(str::to_owned).collect();
            Claim { says: says.trim_matches('"').to_owned(), file: format!("docs/{file}"), figures }
        };
        rows.map(claim).collect()
    }

    #[test]
    fn every_figure_that_the_documentation_names_is_reported_by_a_bench() {
        for file in [PAGE, "README.md", "CONTRIBUTING.md"] {
            assert_eq!(
                unknown(&text(file)),
                Vec::<&str>::new(),
                "{file} names figures that no bench reports"
            );
        }
    }

    #[test]
    fn a_figure_that_no_bench_reports_is_found() {
        assert_eq!(unknown("`find_1m` and `find_1g`, beside `bpf_sock_destroy`"), ["find_1g"]);
    }

    #[test]
    fn every_figure_of_the_page_s_own_chapters_is_on_the_page() {
        let page = text(PAGE);
        let named: BTreeSet<&str> = quoted(&page).into_iter().collect();
        for bench in ["attach", "plugin", "reap"] {
            for figure in of(bench) {
                assert!(named.contains(figure.as_str()), "{PAGE} says nothing of {figure}");
            }
        }
    }

    #[test]
    fn every_claim_is_where_the_page_says_and_has_figures_that_a_bench_reports() {
        let (reported, claims) = (reported(), claims(&text(PAGE)));
        assert!(claims.len() > 3, "{} claims", claims.len());
        for Claim { says, file, figures } in claims {
            assert!(flat(&text(&file)).contains(&flat(&says)), "{file} does not say {says:?}");
            assert!(!figures.is_empty(), "no figure supports {says:?}");
            for figure in figures {
                assert!(
                    reported.contains(&figure),
                    "{figure}, which is to support {says:?}, is not reported"
                );
            }
        }
    }
}
