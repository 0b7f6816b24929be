//! Which server gets the next chunk: weights, and when a standby takes over and steps back. Pure: it knows servers as
//! numbers in configuration order and is told which are available.
//!
//! Regular servers share the chunks in the ratio of their weights (smooth weighted round robin: `5:1` sends no five in a row).
//! While regular servers are unavailable, available standbys join in configuration order until they make up for the weight
//! that is lost, as in Fluentd; unlike in Fluentd the moment a server becomes unavailable.

/// One server as the balance sees it.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// `weight`; 0 is never used.
    pub weight: u32,
    /// `standby`.
    pub standby: bool,
}

/// The rotation over all servers.
#[derive(Debug)]
pub struct Balance {
    shares: Vec<Share>,
    credits: Vec<i64>,
}

impl Balance {
    /// A rotation that begins with the first server.
    pub fn new(shares: Vec<Share>) -> Balance {
        let credits = vec![0; shares.len()];
        Balance { shares, credits }
    }

    /// Which servers chunks go to now: available regular ones, and the standbys that stand in.
    pub fn active(&self, available: &[bool]) -> Vec<bool> {
        let mut lost: u64 = 0;
        let mut active: Vec<bool> = (self.shares.iter().zip(available))
            .map(|(share, available)| {
                if !share.standby && !available {
                    lost += u64::from(share.weight);
                }
                !share.standby && *available && share.weight > 0
            })
            .collect();
        // With standbys alone there is nobody to stand in for: Fluentd then has no servers at all; we use them.
        if !self
            .shares
            .iter()
            .any(|share| !share.standby && share.weight > 0)
        {
            lost = u64::MAX;
        }
        for (at, share) in self.shares.iter().enumerate() {
            if lost > 0 && share.standby && share.weight > 0 && available[at] {
                active[at] = true;
                lost = lost.saturating_sub(u64::from(share.weight));
            }
        }
        active
    }

    /// The next server to try for a chunk that `tried` have failed to take: whoever has the turn; after a failure the
    /// other regular servers, then standbys, and at last those that count as unavailable, since a wrong verdict must not
    /// hold up logs that have nowhere else to go. `None` when each was tried once.
    pub fn next(&mut self, available: &[bool], tried: &[bool]) -> Option<usize> {
        let active = self.active(available);
        let first = !tried.contains(&true);
        let share = |at: usize| self.shares[at];
        let open = |at: usize| !tried[at] && share(at).weight > 0;
        let all = 0..self.shares.len();
        let turn: Vec<usize> = all
            .clone()
            .filter(|at| open(*at) && active[*at] && (first || !share(*at).standby))
            .collect();
        if !turn.is_empty() {
            return self.rotate(&turn);
        }
        let mut rest: Vec<usize> = all.filter(|at| open(*at)).collect();
        rest.sort_by_key(|at| (!available[*at], share(*at).standby));
        rest.first().copied()
    }

    fn rotate(&mut self, turn: &[usize]) -> Option<usize> {
        let mut total = 0;
        for at in turn {
            let weight = i64::from(self.shares[*at].weight);
            self.credits[*at] += weight;
            total += weight;
        }
        // The first of several with the same credit, so that the order is the configuration's.
        let chosen = turn
            .iter()
            .copied()
            .rev()
            .max_by_key(|at| self.credits[*at])?;
        self.credits[chosen] -= total;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn regular(weight: u32) -> Share {
        Share {
            weight,
            standby: false,
        }
    }

    fn standby(weight: u32) -> Share {
        Share {
            weight,
            standby: true,
        }
    }

    /// All servers in the order in which one chunk tries them when each fails.
    fn order(balance: &mut Balance, available: &[bool]) -> Vec<usize> {
        let mut tried = vec![false; available.len()];
        let mut order = Vec::new();
        while let Some(at) = balance.next(available, &tried) {
            tried[at] = true;
            order.push(at);
        }
        order
    }

    #[test]
    fn a_failing_chunk_tries_regular_servers_then_standbys_then_those_that_are_down() {
        let mut balance = Balance::new(vec![
            standby(60),
            regular(60),
            regular(60),
            standby(60),
            regular(60),
        ]);
        let available = [false, true, true, true, false];
        let order = order(&mut balance, &available);
        // 3 stands in for 4, so it is in the rotation with 1 and 2.
        assert_eq!(order, [1, 2, 3, 4, 0]);
    }

    #[test]
    fn a_standby_makes_up_for_the_weight_that_is_lost_and_no_more() {
        let balance = Balance::new(vec![regular(60), regular(60), standby(60), standby(60)]);
        assert_eq!(
            balance.active(&[true, true, true, true]),
            [true, true, false, false]
        );
        assert_eq!(
            balance.active(&[false, true, true, true]),
            [false, true, true, false]
        );
        assert_eq!(
            balance.active(&[false, false, true, true]),
            [false, false, true, true]
        );
        assert_eq!(
            balance.active(&[false, true, false, true]),
            [false, true, false, true]
        );
    }

    #[test]
    fn standbys_alone_are_used() {
        let balance = Balance::new(vec![standby(60), standby(60)]);
        assert_eq!(balance.active(&[true, true]), [true, true]);
    }

    fn shares() -> impl Strategy<Value = Vec<(Share, bool)>> {
        let share = (0u32..100, any::<bool>(), any::<bool>());
        proptest::collection::vec(
            share.prop_map(|(weight, standby, up)| (Share { weight, standby }, up)),
            1..8,
        )
    }

    proptest! {
        #[test]
        fn each_server_is_tried_once_and_weight_0_never(servers in shares(), rounds in 1usize..5) {
            let (shares, available): (Vec<Share>, Vec<bool>) = servers.into_iter().unzip();
            let mut balance = Balance::new(shares.clone());
            for _ in 0..rounds {
                let mut order = order(&mut balance, &available);
                order.sort_unstable();
                let usable: Vec<usize> = (0..shares.len()).filter(|at| shares[*at].weight > 0).collect();
                prop_assert_eq!(order, usable);
            }
        }

        #[test]
        fn a_standby_comes_first_only_while_a_regular_server_is_down(servers in shares(), rounds in 1usize..20) {
            let (shares, available): (Vec<Share>, Vec<bool>) = servers.into_iter().unzip();
            let mut balance = Balance::new(shares.clone());
            let regulars = || shares.iter().zip(&available).filter(|(share, _)| !share.standby && share.weight > 0);
            let whole = regulars().count() > 0 && regulars().all(|(_, up)| *up);
            for _ in 0..rounds {
                if let Some(first) = balance.next(&available, &vec![false; shares.len()]) {
                    prop_assert!(!(whole && shares[first].standby));
                    prop_assert!(available[first] || !available.iter().zip(&shares).any(|(up, share)| *up && share.weight > 0));
                }
            }
        }

        #[test]
        fn chunks_follow_the_weights(weights in proptest::collection::vec(1u32..20, 1..6)) {
            let total: u32 = weights.iter().sum();
            let mut balance = Balance::new(weights.iter().map(|weight| regular(*weight)).collect());
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..3 * total {
                let chosen = balance.next(&vec![true; weights.len()], &vec![false; weights.len()]).expect("someone");
                counts[chosen] += 1;
            }
            let expected: Vec<u32> = weights.iter().map(|weight| 3 * weight).collect();
            prop_assert_eq!(counts, expected);
        }
    }
}
