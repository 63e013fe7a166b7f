//! Tests of the budget.

use proptest::prelude::*;

use super::*;

const KIND: ResourceKind = ResourceKind::new("thing");

fn budget(ceiling: u32) -> Budget {
    Budget::builder().at_once(KIND, ceiling, Duration::from_secs(5)).build()
}

#[tokio::test(start_paused = true)]
async fn a_draw_is_set_aside_whole_or_not_at_all() {
    let budget = budget(3);
    let one = budget.reserve(&[Draw::new(KIND, 2)]).await.expect("fits");
    let second = budget.clone();
    let waiting = tokio::spawn(async move { second.reserve(&[Draw::new(KIND, 2)]).await.is_ok() });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "2 of 3 are set aside");
    drop(one);
    assert!(waiting.await.expect("no panic"));
    let error = budget.reserve(&[Draw::new(KIND, 4)]).await.expect_err("above the ceiling");
    assert_eq!(error, BudgetError::Exceeds { resource: KIND, amount: 4, ceiling: 3 });
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_lingers_and_a_settled_one_does_not() {
    let budget = budget(1);
    let allotment = budget.reserve(&[Draw::new(KIND, 1)]).await.expect("fits");
    allotment.try_lease(&KIND).expect("free").settle();
    drop(allotment.try_lease(&KIND).expect("settled"));
    assert!(allotment.try_lease(&KIND).is_err(), "lingers");
    let before = clock::now();
    drop(allotment.lease(&KIND).await.expect("after lingering"));
    assert!(before.elapsed() >= Duration::from_secs(5));

    drop(allotment);
    let before = clock::now();
    budget.reserve(&[Draw::new(KIND, 1)]).await.expect("after the allotment's lingering");
    assert!(before.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn more_than_declared_is_refused() {
    let budget = budget(5);
    let allotment = budget.reserve(&[Draw::new(KIND, 1)]).await.expect("fits");
    let _lease = allotment.try_lease(&KIND).expect("declared");
    let error = allotment.try_lease(&KIND).expect_err("not declared");
    assert_eq!(error, BudgetError::Undeclared { resource: KIND, drawn: 1 });
    let other = ResourceKind::new("other");
    assert!(allotment.lease(&other).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn pace_spreads_acts_over_the_window() {
    let budget = Budget::builder().paced(KIND, Rate::per_minute(2)).build();
    let start = clock::now();
    for _ in 0..5 {
        budget.pace(&KIND).await;
    }
    assert_eq!(start.elapsed(), Duration::from_secs(120));
}

#[derive(Clone, Debug)]
enum Act {
    Reserve(u32),
    Lease(usize),
    Settle(usize),
    Drop(usize),
    Forget(usize),
    Wait,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (1..4u32).prop_map(Act::Reserve),
        (0..8usize).prop_map(Act::Lease),
        (0..8usize).prop_map(Act::Settle),
        (0..8usize).prop_map(Act::Drop),
        (0..8usize).prop_map(Act::Forget),
        Just(Act::Wait),
    ]
}

proptest! {
    #[test]
    fn the_ceiling_holds_whatever_happens(acts in proptest::collection::vec(act(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let budget = budget(5);
            let (mut allotments, mut leases) = (Vec::new(), Vec::new());
            for act in acts {
                match act {
                    Act::Reserve(n) => {
                        if let Ok(Ok(a)) = budget.try_reserve(&[Draw::new(KIND, n)]) {
                            allotments.push(a);
                        }
                    }
                    Act::Lease(i) if i < allotments.len() => {
                        leases.extend(allotments[i].try_lease(&KIND));
                    }
                    Act::Settle(i) if i < leases.len() => leases.remove(i).settle(),
                    Act::Drop(i) if i < leases.len() => drop(leases.remove(i)),
                    Act::Forget(i) if i < allotments.len() => drop(allotments.remove(i)),
                    Act::Wait => tokio::time::advance(Duration::from_secs(2)).await,
                    _ => {}
                }
                let usage = &budget.usage()[0];
                assert!(usage.in_use <= 5 && usage.peak <= 5, "{usage:?}");
                assert!(usage.in_use as usize >= leases.len(), "{usage:?}");
            }
            drop((allotments, leases));
            tokio::time::advance(Duration::from_secs(6)).await;
            let all = budget.try_reserve(&[Draw::new(KIND, 5)]).expect("below the ceiling");
            assert!(all.is_ok(), "everything came back");
        });
    }
}
