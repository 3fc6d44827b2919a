//! Medians and spreads.

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
    let (place, below) = {
        let place = part.clamp(0.0, 1.0) * last as f64;
        (place, place.floor() as usize)
    };
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

/// The median.
pub(crate) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The interquartile range as a part of the median: half of the samples lie within it.
pub(crate) fn spread(samples: &[f64]) -> f64 {
    (quantile(samples, 0.75) - quantile(samples, 0.25)) / median(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert!((median(&samples) - 2.5).abs() < 1e-9);
        assert!((quantile(&samples, 0.25) - 1.75).abs() < 1e-9);
        assert!((spread(&samples) - 1.5 / 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
        assert!((median(&[7.0]) - 7.0).abs() < 1e-9);
    }
}
