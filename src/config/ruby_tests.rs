use super::*;

fn world() -> World {
    let env = [("A", "one"), ("N", "7"), ("EMPTY", "")];
    World {
        env: env
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        hostname: "web-1".to_owned(),
    }
}

#[track_caller]
fn gives(code: &str, expected: &str) {
    let outcome = evaluate(code, &world()).map(|evaluated| evaluated.outcome);
    assert_eq!(outcome, Ok(Outcome::Text(expected.to_owned())), "{code}");
}

#[track_caller]
fn refused(code: &str, at: &str, message: &str) {
    let refusal = evaluate(code, &world()).expect_err(code);
    assert_eq!(&code[refusal.place.clone()], at, "{code}");
    assert!(
        refusal.message.contains(message),
        "{code}: {}",
        refusal.message
    );
}

#[test]
fn the_environment_is_read_with_its_usual_fallbacks() {
    gives("ENV['A']", "one");
    gives("ENV[\"A\"]", "one");
    gives("ENV['NONE']", "");
    gives("ENV['NONE'] || 'd'", "d");
    gives("ENV['NONE'] || ENV['A'] || \"d\"", "one");
    gives("ENV['EMPTY'] || 'd'", "");
    gives("ENV['NONE'] or 5", "5");
    gives("ENV.fetch('A')", "one");
    gives("ENV.fetch('NONE', 'd')", "d");
    gives("ENV.fetch('NONE') { 'd' }", "d");
    gives("ENV.key?('A')", "true");
    gives("ENV[\"#{'A'}\"]", "one");
    refused("ENV.fetch('NONE')", "ENV.fetch('NONE')", "not set");
}

#[test]
fn conditions_choose() {
    gives("ENV['A'] == 'one' ? 'x' : 'y'", "x");
    gives("ENV['A'] != 'one' ? 'x' : 'y'", "y");
    gives(
        "if ENV['NONE'] then 1 elsif ENV['A'] then 2 else 3 end",
        "2",
    );
    gives("unless ENV['A'] then 1 else 2 end", "2");
    gives(
        "ENV['NONE'].nil? || ENV['NONE'].empty? ? 'd' : ENV['NONE']",
        "d",
    );
    gives("ENV['EMPTY'].empty? ? 'd' : 'e'", "d");
    gives("!ENV['NONE'] && true", "true");
    gives("(ENV['A'] && nil).to_s + 'x'", "x");
    gives("ENV['NONE']&.strip || 'd'", "d");
}

#[test]
fn strings_and_numbers_have_a_few_methods() {
    gives("\"a#{1 + 1}b\" + 'c'", "a2bc");
    gives("'7'.to_i + 1", "8");
    gives("ENV['N'].to_i * 1024", "7168");
    gives("-7 / 2", "-4");
    gives("-7 % 3", "2");
    gives("7 / 2.0", "3.5");
    gives("2 ** 10", "1024");
    gives("1e20", "1.0e+20");
    gives("1.0", "1.0");
    gives("1_000", "1000");
    gives("nil.to_i", "0");
    gives("' Ab '.strip.downcase", "ab");
    gives("\"a\\n\".chomp.upcase", "A");
    gives("3 > 2", "true");
    gives("1; 2", "2");
    gives("", "");
    refused("1 / 0", "1 / 0", "divided by zero");
    refused(
        "9223372036854775807 + 1",
        "9223372036854775807 + 1",
        "too large",
    );
}

#[test]
fn the_machine_has_a_name_and_one_worker() {
    gives("hostname", "web-1");
    gives("Socket.gethostname", "web-1");
    gives("Socket.gethostname.upcase", "WEB-1");
    gives("worker_id", "0");
}

#[test]
fn files_can_be_read() {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), "key\n").expect("write");
    let path = file.path().display();
    gives(&format!("File.read('{path}').chomp"), "key");
    refused(
        "File.read('/nowhere')",
        "File.read('/nowhere')",
        "cannot be read",
    );
}

#[test]
fn use_nil_and_use_default_end_the_evaluation() {
    let outcome = |code| evaluate(code, &world()).map(|evaluated| evaluated.outcome);
    assert_eq!(outcome("ENV['NONE'] || use_default"), Ok(Outcome::Default));
    assert_eq!(outcome("ENV['NONE'] || use_nil"), Ok(Outcome::Nil));
    gives("ENV['A'] || use_nil", "one");
}

#[test]
fn everything_else_is_refused_at_its_place() {
    refused("`hostname -i`", "`hostname -i`", "not supported");
    refused("'a' + system('ls')", "system('ls')", "not supported");
    refused("1 + foo", "foo", "'foo' is not known");
    refused("Time.now.to_i", "Time.now", "'Time.now' is not supported");
    refused("[1, 2].first", "[1, 2]", "not supported");
    refused(
        "ENV['NONE'].empty?",
        "ENV['NONE'].empty?",
        "environment variable",
    );
    refused("'a' + 1", "'a' + 1", "not supported");
    let deepest = format!("{}1{}", "(".repeat(1000), ")".repeat(1000));
    assert_eq!(code_length(&format!("{deepest}}}")), Some(2001));
    assert!(evaluate(&deepest, &world()).is_err());
    let deep = format!("{}1", "!".repeat(100));
    let refusal = evaluate(&deep, &world()).expect_err("too deep");
    assert!(refusal.message.contains("nested too deeply"));
}

#[test]
fn only_what_comes_from_the_environment_or_a_file_is_foreign() {
    let foreign = |code| evaluate(code, &world()).map(|evaluated| evaluated.foreign);
    assert_eq!(foreign("ENV['A']"), Ok(true));
    assert_eq!(foreign("hostname"), Ok(false));
    assert_eq!(foreign("'x' || ENV['A']"), Ok(false));
}

#[test]
fn the_code_ends_at_the_first_brace_that_leaves_valid_ruby() {
    assert_eq!(code_length("ENV['A']}.log"), Some(8));
    assert_eq!(code_length("'}' + \"#{1}\"} }"), Some(12));
    assert_eq!(code_length("ENV.fetch('A') { 'b' }}"), Some(22));
    assert_eq!(code_length("}"), Some(0));
    assert_eq!(code_length("ENV['A'"), None);
    assert_eq!(code_length(&format!("({}", "}".repeat(10_000))), None);
}
