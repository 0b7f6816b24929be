//! A `time_format`, compiled once: Ruby's strptime directives as a list of steps over bytes.
//!
//! Owns reading the parts of a time from text. What the parts mean together (missing years, zones) is `parts.rs`.
//!
//! Fluentd uses two engines: the strptime gem where it can compile the format, Ruby's own otherwise. They differ in small
//! things (the gem rolls 30 February into March, refuses 24:00:00 and zone names); [`Format::by_gem`] tells which one this
//! format would get, so that the same times come out.

use super::parts::Parts;

/// What the strptime gem compiles; a format with anything else goes to Ruby's own strptime.
const GEM_DIRECTIVES: &[u8] = b"YmdeHMSybBhNz";

/// One step through the text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Literal(u8),
    /// Blank in the format: any number of blanks in the text, none included.
    Blanks,
    Year {
        digits: usize,
    },
    ShortYear,
    Century,
    Month,
    MonthName,
    Day,
    DayOfYear,
    Weekday,
    WeekdayNumber,
    Hour,
    Hour12,
    Meridian,
    Minute,
    Second,
    Fraction {
        digits: usize,
    },
    Zone,
    Epoch,
    EpochMillis,
}

/// A compiled `time_format`.
#[derive(Clone, Debug)]
pub struct Format {
    steps: Vec<Step>,
    by_gem: bool,
    lenient: Option<String>,
}

impl Format {
    /// Compiles; the error names the directive that has no meaning in a time to be read.
    pub fn compile(format: &str) -> Result<Format, String> {
        let mut compiled = Format {
            steps: Vec::new(),
            by_gem: true,
            lenient: None,
        };
        compiled.add(format.as_bytes())?;
        compiled.bound_numbers();
        Ok(compiled)
    }

    /// Whether Fluentd would read this format with the strptime gem.
    pub fn by_gem(&self) -> bool {
        self.by_gem
    }

    /// The directive, if any, that Fluentd would never match (`%3N`, `%-d`) and that is read here without its flag.
    pub fn lenient(&self) -> Option<&str> {
        self.lenient.as_deref()
    }

    /// Reads the parts of a time. Text behind the format is ignored, as in Fluentd.
    pub fn read(&self, text: &[u8]) -> Option<Parts> {
        let mut cursor = Cursor { text, at: 0 };
        let mut parts = Parts::default();
        for step in &self.steps {
            cursor.take(step, self.by_gem, &mut parts)?;
        }
        Some(parts)
    }

    fn add(&mut self, format: &[u8]) -> Result<(), String> {
        let mut at = 0;
        while let Some(&byte) = format.get(at) {
            at += 1;
            if byte.is_ascii_whitespace() {
                self.steps.push(Step::Blanks);
            } else if byte != b'%' || at == format.len() {
                self.steps.push(Step::Literal(byte));
            } else {
                at = self.add_directive(format, at)?;
            }
        }
        Ok(())
    }

    /// The directive whose flags begin at `start`; answers where the format goes on.
    fn add_directive(&mut self, format: &[u8], start: usize) -> Result<usize, String> {
        let flagged = |byte: &u8| b"-_^#0123456789".contains(byte);
        let modifier = |byte: &u8| b":EO".contains(byte);
        let mut at = start;
        at += format[at..].iter().take_while(|b| modifier(b)).count();
        let plain = at;
        at += format[at..].iter().take_while(|b| flagged(b)).count();
        let whole = || String::from_utf8_lossy(&format[start - 1..=at.min(format.len() - 1)]);
        let Some(&directive) = format.get(at) else {
            return Err(format!(
                "time_format ends inside the directive '{}'",
                whole()
            ));
        };
        if at > plain {
            self.lenient = Some(whole().into_owned());
        }
        self.by_gem &= at == start && GEM_DIRECTIVES.contains(&directive);
        if let Some(longer) = composite(directive) {
            self.add(longer)?;
            return Ok(at + 1);
        }
        let step = single(directive).ok_or_else(|| {
            format!(
                "the directive '{}' cannot be read from a time in time_format",
                whole()
            )
        })?;
        self.steps.push(step);
        Ok(at + 1)
    }

    /// A year or a fraction directly before another number takes a fixed number of digits, else all there are.
    fn bound_numbers(&mut self) {
        for at in 0..self.steps.len() {
            let numeric_next = self.steps.get(at + 1).is_some_and(Step::is_number);
            let by_gem = self.by_gem;
            match &mut self.steps[at] {
                Step::Year { digits } if !numeric_next => *digits = 9,
                Step::Fraction { digits } if by_gem => *digits = 9,
                Step::Fraction { digits } if !numeric_next => *digits = usize::MAX,
                _ => {}
            }
        }
    }
}

impl Step {
    fn is_number(&self) -> bool {
        !matches!(
            self,
            Step::Blanks | Step::MonthName | Step::Weekday | Step::Meridian | Step::Zone
        ) && !matches!(self, Step::Literal(byte) if !byte.is_ascii_digit())
    }
}

fn composite(directive: u8) -> Option<&'static [u8]> {
    Some(match directive {
        b'T' | b'X' => b"%H:%M:%S",
        b'D' | b'x' => b"%m/%d/%y",
        b'F' => b"%Y-%m-%d",
        b'R' => b"%H:%M",
        b'r' => b"%I:%M:%S %p",
        b'c' => b"%a %b %e %H:%M:%S %Y",
        b'v' => b"%e-%b-%Y",
        b'+' => b"%a %b %e %H:%M:%S %Z %Y",
        b'n' | b't' => b" ",
        _ => return None,
    })
}

fn single(directive: u8) -> Option<Step> {
    Some(match directive {
        b'Y' => Step::Year { digits: 4 },
        b'y' => Step::ShortYear,
        b'C' => Step::Century,
        b'm' => Step::Month,
        b'b' | b'B' | b'h' => Step::MonthName,
        b'd' | b'e' => Step::Day,
        b'j' => Step::DayOfYear,
        b'a' | b'A' => Step::Weekday,
        b'u' | b'w' => Step::WeekdayNumber,
        b'H' | b'k' => Step::Hour,
        b'I' | b'l' => Step::Hour12,
        b'p' | b'P' => Step::Meridian,
        b'M' => Step::Minute,
        b'S' => Step::Second,
        b'L' => Step::Fraction { digits: 3 },
        b'N' => Step::Fraction { digits: 9 },
        b'z' | b'Z' => Step::Zone,
        b's' => Step::Epoch,
        b'Q' => Step::EpochMillis,
        b'%' => Step::Literal(b'%'),
        _ => return None,
    })
}

/// A place in the text that is read.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

impl Cursor<'_> {
    fn take(&mut self, step: &Step, by_gem: bool, parts: &mut Parts) -> Option<()> {
        match step {
            Step::Literal(byte) => return self.literal(*byte),
            Step::Blanks => self.blanks(),
            Step::Year { digits } => parts.year = Some(self.signed(*digits)?),
            Step::ShortYear => {
                let year = self.number(2)?;
                parts.year = Some(i64::from(year) + if year < 69 { 2000 } else { 1900 });
            }
            Step::Century => {
                let century = i64::from(self.number(2)?);
                parts.year =
                    Some(century * 100 + parts.year.map_or(0, |year| year.rem_euclid(100)));
            }
            Step::Month => parts.month = Some(self.number(2).filter(|m| (1..=12).contains(m))?),
            Step::MonthName => parts.month = Some(self.month_name()?),
            Step::Day => parts.day = Some(self.padded().filter(|day| (1..=31).contains(day))?),
            Step::DayOfYear => parts.day_of_year = Some(self.number(3)?),
            Step::Weekday => self.weekday()?,
            Step::WeekdayNumber => drop(self.number(1)?),
            Step::Hour => parts.hour = Some(self.padded().filter(|hour| *hour <= 24)?),
            Step::Hour12 => parts.hour = Some(self.padded().filter(|h| (1..=12).contains(h))?),
            Step::Meridian => parts.afternoon = Some(self.meridian()?),
            Step::Minute => parts.minute = Some(self.number(2).filter(|minute| *minute <= 59)?),
            Step::Second => parts.second = Some(self.number(2).filter(|second| *second <= 60)?),
            Step::Fraction { digits } => parts.nsec = Some(self.fraction(*digits)?),
            Step::Zone => parts.zone = self.zone(!by_gem)?,
            Step::Epoch => parts.epoch_ms = Some(self.signed(18)?.checked_mul(1000)?),
            Step::EpochMillis => parts.epoch_ms = Some(self.signed(18)?),
        }
        Some(())
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn blanks(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    pub(super) fn literal(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// At most `digits` digits, at least one.
    pub(super) fn number(&mut self, digits: usize) -> Option<u32> {
        let start = self.at;
        let mut value: u32 = 0;
        while self.at - start < digits
            && let Some(digit @ b'0'..=b'9') = self.peek()
        {
            value = value
                .checked_mul(10)?
                .checked_add(u32::from(digit - b'0'))?;
            self.at += 1;
        }
        (self.at > start).then_some(value)
    }

    /// Two digits, or a blank and one.
    fn padded(&mut self) -> Option<u32> {
        if self.literal(b' ').is_some() {
            return self.number(1);
        }
        self.number(2)
    }

    fn signed(&mut self, digits: usize) -> Option<i64> {
        let negative = self.literal(b'-').is_some();
        if !negative {
            let _plus = self.literal(b'+');
        }
        let start = self.at;
        let mut value: i64 = 0;
        while self.at - start < digits
            && let Some(digit @ b'0'..=b'9') = self.peek()
        {
            value = value * 10 + i64::from(digit - b'0');
            self.at += 1;
        }
        (self.at > start).then_some(if negative { -value } else { value })
    }

    /// Digits of a fraction as nanoseconds; what is finer is cut off.
    pub(super) fn fraction(&mut self, digits: usize) -> Option<u32> {
        let start = self.at;
        let mut nsec = 0;
        let mut weight = 100_000_000;
        while self.at - start < digits
            && let Some(digit @ b'0'..=b'9') = self.peek()
        {
            nsec += u32::from(digit - b'0') * weight;
            weight /= 10;
            self.at += 1;
        }
        (self.at > start).then_some(nsec)
    }

    /// An abbreviated or full English name of a month, in any case.
    pub(super) fn month_name(&mut self) -> Option<u32> {
        const MONTHS: [&str; 12] = [
            "january",
            "february",
            "march",
            "april",
            "may",
            "june",
            "july",
            "august",
            "september",
            "october",
            "november",
            "december",
        ];
        let at = self.name(&MONTHS)?;
        u32::try_from(at + 1).ok()
    }

    pub(super) fn weekday(&mut self) -> Option<()> {
        const DAYS: [&str; 7] = [
            "sunday",
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
        ];
        self.name(&DAYS).map(|_| ())
    }

    /// Which of `names` stands here, in full or by its first three letters.
    fn name(&mut self, names: &[&str]) -> Option<usize> {
        let rest = &self.text[self.at..];
        let starts = |name: &str| {
            rest.get(..name.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(name.as_bytes()))
        };
        let at = names.iter().position(|name| starts(&name[..3]))?;
        self.at += if starts(names[at]) {
            names[at].len()
        } else {
            3
        };
        Some(at)
    }

    pub(super) fn meridian(&mut self) -> Option<bool> {
        let afternoon = match self.peek()?.to_ascii_lowercase() {
            b'a' => false,
            b'p' => true,
            _ => return None,
        };
        let dotted = self.text.get(self.at + 1) == Some(&b'.');
        let m = self.text.get(self.at + 1 + usize::from(dotted))?;
        if !m.eq_ignore_ascii_case(&b'm') {
            return None;
        }
        self.at += if dotted { 4 } else { 2 }.min(self.text.len() - self.at);
        Some(afternoon)
    }
}
