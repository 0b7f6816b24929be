//! Groups: which one a path belongs to, and what it may read when.

use super::*;
use crate::config::Config;
use proptest::prelude::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn configured(text: &str) -> std::result::Result<Arc<Rules>, String> {
    let text = format!("<source>\n<group>\n{text}\n</group>\n</source>\n");
    let config = Config::from_text(&text).expect("a configuration");
    let source = config.root().children().next().expect("a section");
    let rules = configure(source).map_err(|errors| errors.to_string())?;
    Ok(rules.expect("a group section"))
}

fn groups(text: &str) -> Groups {
    Groups::new(configured(text).expect("good rules"))
}

fn container(pod: &str, namespace: &str) -> PathBuf {
    format!("/var/log/containers/{pod}_{namespace}_app-{ID}.log").into()
}

/// What the path may read at once when it is alone.
fn limit_of(groups: &mut Groups, path: &Path) -> Allowance {
    groups.retain(|_| false);
    groups.enter(path);
    groups.allowance(path, Instant::now())
}

#[test]
fn a_path_belongs_to_the_most_specific_rule_that_matches_it() {
    let mut groups = groups(
        r#"
        <rule>
          match {"namespace": "/shop/"}
          limit 10
        </rule>
        <rule>
          match namespace:/SHOP/i,podname:/front.*/
          limit 20
        </rule>
        <rule>
          match {"namespace": "/^quiet$/"}
          limit 5
        </rule>
        <rule>
          match {"container": "/app/", "podname": "/^silent$/"}
          limit 0
        </rule>
        "#,
    );
    for (pod, namespace, allowance) in [
        ("back-1", "shop", Allowance::Lines(10)),
        // The captures are one text with `_` between them, as in Fluentd: a name must match as a whole, unless it is the first.
        ("back-1", "workshop", Allowance::Unlimited),
        ("front-1", "shop", Allowance::Lines(20)),
        ("front-1", "other", Allowance::Unlimited),
        // And `^` is the beginning of that text, not of a name.
        ("x", "quiet", Allowance::Unlimited),
        ("silent", "other", Allowance::Unlimited),
    ] {
        let path = container(pod, namespace);
        assert_eq!(limit_of(&mut groups, &path), allowance, "{pod} {namespace}");
    }
}

#[test]
fn a_rule_without_match_is_for_everything_else() {
    let mut groups = groups("<rule>\nlimit 7\n</rule>\n<rule>\nmatch podname:/a/\n</rule>");
    assert_eq!(
        limit_of(&mut groups, &container("b", "c")),
        Allowance::Lines(7)
    );
    assert_eq!(
        limit_of(&mut groups, &container("a", "c")),
        Allowance::Unlimited
    );
    let other = Path::new("/var/log/app.log");
    assert!(!groups.enter(other), "the pattern does not match it");
    assert!(groups.enter(other), "which is told once");
    assert_eq!(limit_of(&mut groups, other), Allowance::Lines(7));
}

#[test]
fn a_pattern_of_ones_own_names_the_groups() {
    let mut groups = groups(
        "pattern /\\/(?<App>[^\\/]+)\\.LOG$/i\nrate_period 1m\n<rule>\nmatch App:/^web$/\nlimit 3\n</rule>",
    );
    let now = Instant::now();
    let path = Path::new("/logs/web.log");
    assert_eq!(limit_of(&mut groups, path), Allowance::Lines(3));
    groups.took(path, 3, now);
    let later = now + Duration::from_secs(60);
    assert_eq!(groups.allowance(path, now), Allowance::Until(later));
    assert_eq!(
        limit_of(&mut groups, Path::new("/logs/cobweb.log")),
        Allowance::Unlimited
    );
}

#[test]
fn a_limit_is_shared_out_evenly_and_no_share_is_nothing() {
    let mut groups = groups("<rule>\nlimit 5\n</rule>");
    let paths: Vec<PathBuf> = (0..7).map(|n| container(&format!("p{n}"), "n")).collect();
    let now = Instant::now();
    for (count, share) in [(1, 5), (2, 2), (5, 1), (7, 1)] {
        paths[..count].iter().for_each(|path| {
            groups.enter(path);
        });
        assert_eq!(groups.len(), count);
        assert_eq!(groups.allowance(&paths[0], now), Allowance::Lines(share));
    }
    groups.retain(|path| path == paths[0]);
    assert_eq!(groups.allowance(&paths[0], now), Allowance::Lines(5));
    assert_eq!(groups.allowance(&paths[1], now), Allowance::Unlimited);
}

#[test]
fn what_is_malformed_is_an_error_that_names_it() {
    for (text, words) in [
        ("pattern /x/", &["'<rule>' sections are required"][..]),
        ("pattern /(?<a>/\n<rule>\n</rule>", &["pattern"]),
        ("rate_period soon\n<rule>\n</rule>", &["rate_period"]),
        ("<rule>\nlimit -2\n</rule>", &["limit", "-2"]),
        ("<rule>\nlimit many\n</rule>", &["limit", "many"]),
        ("<rule>\nmatch podname:/(/\n</rule>", &["match"]),
        ("<rule>\nmatch podname\n</rule>", &["match"]),
        (
            "<rule>\nlimit -2\n</rule>\n<rule>\nlimit x\n</rule>",
            &["-2", "Got: x"],
        ),
    ] {
        let error = configured(text).expect_err(text);
        for word in words {
            assert!(error.contains(word), "{word} in {error}");
        }
    }
    let twice = "<source>\n<group>\n<rule>\n</rule>\n</group>\n<group>\n</group>\n</source>\n";
    let config = Config::from_text(twice).expect("a configuration");
    let source = config.root().children().next().expect("a section");
    assert!(configure(source).is_err());
}

proptest! {
    #[test]
    fn no_path_gives_more_than_its_share_in_a_period_and_none_waits_longer(
        limit in 1u64..20,
        paths in 1usize..4,
        steps in prop::collection::vec((0usize..4, 0u64..3000, 0u64..30), 1..80),
    ) {
        let mut groups = groups(&format!("rate_period 2s\n<rule>\nlimit {limit}\n</rule>"));
        let period = Duration::from_secs(2);
        let names: Vec<PathBuf> = (0..paths).map(|n| container(&format!("p{n}"), "n")).collect();
        for name in &names {
            groups.enter(name);
        }
        let share = (limit / paths as u64).max(1);
        let mut now = Instant::now();
        // Per path: since when it counts, and how many lines it gave since.
        let mut model: Vec<(Option<Instant>, u64)> = vec![(None, 0); paths];
        for (path, pause, wanted) in steps {
            now += Duration::from_millis(pause);
            let (since, given) = &mut model[path % paths];
            let name = &names[path % paths];
            match groups.allowance(name, now) {
                Allowance::Lines(left) => {
                    if *given == share {
                        prop_assert!(now >= since.expect("lines were given") + period);
                        (*since, *given) = (None, 0);
                    }
                    prop_assert_eq!(left, share - *given);
                    let lines = wanted.min(left);
                    groups.took(name, lines, now);
                    *given += lines;
                    if lines > 0 {
                        since.get_or_insert(now);
                    }
                }
                Allowance::Until(until) => {
                    prop_assert_eq!(*given, share);
                    prop_assert_eq!(until, since.expect("lines were given") + period);
                    prop_assert!(until > now);
                    let then = groups.allowance(name, until);
                    prop_assert_eq!(then, Allowance::Lines(share));
                    (now, *since, *given) = (until, None, 0);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
