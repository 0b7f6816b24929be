//! Event time: seconds and nanoseconds since the epoch, MessagePack extension type 0.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time of an event. On the wire `d7 00`, seconds and nanoseconds as big-endian 32-bit numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime {
    /// Seconds since 1970-01-01 UTC.
    pub sec: u32,
    /// Nanoseconds within the second.
    pub nsec: u32,
}

impl EventTime {
    /// The wall clock. Called once per read, never per line.
    pub fn now() -> EventTime {
        EventTime::from(SystemTime::now())
    }

    /// The ten bytes of the fixext8 form.
    pub fn to_bytes(self) -> [u8; 10] {
        let (s, n) = (self.sec.to_be_bytes(), self.nsec.to_be_bytes());
        [0xd7, 0x00, s[0], s[1], s[2], s[3], n[0], n[1], n[2], n[3]]
    }

    /// The same instant for the standard library.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::new(u64::from(self.sec), self.nsec)
    }
}

impl From<SystemTime> for EventTime {
    fn from(time: SystemTime) -> EventTime {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        // EventTime holds 32-bit seconds: it ends in 2106, as Fluentd's does.
        EventTime {
            sec: u32::try_from(since.as_secs()).unwrap_or(u32::MAX),
            nsec: since.subsec_nanos(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_fluentds_fixext8() {
        let time = EventTime {
            sec: 1_700_000_000,
            nsec: 123_456_789,
        };
        assert_eq!(
            time.to_bytes(),
            [0xd7, 0x00, 0x65, 0x53, 0xf1, 0x00, 0x07, 0x5b, 0xcd, 0x15]
        );
    }

    #[test]
    fn system_time_survives_the_round_trip() {
        let time = EventTime { sec: 5, nsec: 7 };
        assert_eq!(EventTime::from(time.to_system_time()), time);
    }
}
