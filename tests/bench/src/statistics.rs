//! Medians, and how far they can be trusted.

/// How sure an interval is to hold the median.
const CONFIDENCE: f64 = 0.95;

/// The value below which this part of the samples lies, interpolated between the nearest two.
pub(crate) fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into a few samples"
    )]
    let (rank, below) = {
        let rank = part.clamp(0.0, 1.0) * last as f64;
        (rank, rank.floor() as usize)
    };
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * rank.fract()
}

/// The median.
pub(crate) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// By which factor, less one, the true median may be away from that of these samples; none when they are too few to say.
///
/// The order-statistic interval: each sample is above the true median as likely as below, whatever they are distributed
/// like, so how many are above is a binomial number, and the k-th smallest and the k-th largest enclose it in all cases
/// but those with fewer than k on one side.
pub(crate) fn within(samples: &[f64]) -> Option<f64> {
    let outer = outermost(samples.len())?;
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[outer], sorted[sorted.len() - 1 - outer]);
    let median = median(&sorted);
    if low <= 0.0 {
        // As far as anything.
        return Some(f64::INFINITY);
    }
    Some((high / median).max(median / low) - 1.0)
}

/// How many of so many samples can be left out on either side.
fn outermost(samples: usize) -> Option<usize> {
    let samples = i32::try_from(samples).ok()?;
    let (mut ways, mut beyond, mut left_out) = (1.0, 0.0, None);
    for number in 0..samples {
        // Cases in which exactly so many are on that side, of all.
        beyond += ways * 0.5_f64.powi(samples);
        if 1.0 - 2.0 * beyond < CONFIDENCE {
            break;
        }
        left_out = usize::try_from(number).ok();
        ways *= f64::from(samples - number) / f64::from(number + 1);
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert!((median(&samples) - 2.5).abs() < 1e-9);
        assert!((quantile(&samples, 0.25) - 1.75).abs() < 1e-9);
        assert!(median(&[]).is_nan());
        assert!((median(&[7.0]) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Ranks of the two-sided interval of at least 95 %, as statisticians' tables give them, less one.
        let table = [
            (5, None),
            (6, Some(0)),
            (8, Some(0)),
            (9, Some(1)),
            (12, Some(2)),
            (15, Some(3)),
            (25, Some(7)),
        ];
        for (samples, ranks) in table {
            assert_eq!(outermost(samples), ranks, "{samples} samples");
        }
    }

    #[test]
    fn a_single_outlier_among_nine_counts_for_nothing() {
        let mut samples = vec![10.0; 8];
        samples.push(1000.0);
        assert!(within(&samples).is_some_and(|within| within.abs() < 1e-9));
        assert_eq!(within(&samples[..5]), None);
    }
}
