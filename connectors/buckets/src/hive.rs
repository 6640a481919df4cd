//! Hive's rules (`org.apache.hadoop.hive.serde2.objectinspector.ObjectInspectorUtils`): `hashCode` is version 1,
//! `hashCodeMurmur` version 2. Where Hive would ask its own server for a time zone, times count in UTC here.

use crate::cell::Cell;
use crate::murmur;

/// Hashes a value as Hive did before 3.
pub(crate) fn hash_v1(cell: Cell<'_>) -> i32 {
    match cell {
        Cell::Bool(value) => value.into(),
        Cell::Int8(value) => value.into(),
        Cell::Int16(value) => value.into(),
        Cell::Int32(value) | Cell::Date(value) => value,
        Cell::Int64(value) => fold_long(value),
        Cell::Float(value) => float_bits(value),
        Cell::Double(value) => fold_long(double_bits(value)),
        Cell::Decimal(value, _, scale) => decimal_v1(value, scale),
        Cell::Text(bytes) => java_bytes_hash(0, bytes),
        // `BytesWritable.hashCode` starts from 1, where the loop over a text starts from 0.
        Cell::Binary(bytes) => java_bytes_hash(1, bytes),
        Cell::Timestamp(micros) => {
            let (seconds, nanos) = seconds_and_nanos(micros);
            fold_long((seconds << 30) | nanos)
        }
    }
}

/// Hashes a value as Hive does from 3 on.
pub(crate) fn hash_v2(cell: Cell<'_>) -> i32 {
    match cell {
        Cell::Bool(value) => value.into(),
        Cell::Int8(value) => value.into(),
        Cell::Int16(value) => murmur::hive(&value.to_be_bytes()),
        Cell::Int32(value) | Cell::Date(value) => murmur::hive(&value.to_be_bytes()),
        Cell::Int64(value) => murmur::hive(&value.to_be_bytes()),
        // Hive passes the *bits*, a whole number, where a float is wanted: Java converts the number.
        Cell::Float(value) => murmur::hive(&(float_bits(value) as f32).to_be_bytes()),
        Cell::Double(value) => murmur::hive(&(double_bits(value) as f64).to_be_bytes()),
        Cell::Decimal(value, _, scale) => murmur::hive(&to_java_bytes(trim(value, scale).0)),
        Cell::Text(bytes) | Cell::Binary(bytes) => murmur::hive(bytes),
        Cell::Timestamp(micros) => murmur::hive(&timestamp_bytes(micros)),
    }
}

/// `Long.hashCode` of Java.
fn fold_long(value: i64) -> i32 {
    ((value.cast_unsigned() >> 32) ^ value.cast_unsigned()) as u32 as i32
}

/// `Float.floatToIntBits` of Java: one NaN, two zeros.
fn float_bits(value: f32) -> i32 {
    if value.is_nan() { 0x7fc0_0000 } else { value.to_bits().cast_signed() }
}

/// `Double.doubleToLongBits` of Java: one NaN, two zeros.
fn double_bits(value: f64) -> i64 {
    if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits().cast_signed() }
}

fn java_bytes_hash(start: i32, bytes: &[u8]) -> i32 {
    bytes.iter().fold(start, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.cast_signed().into()))
}

/// Takes zeros behind the point away, as `HiveDecimal` does: 1.50 and 1.5 are one key.
fn trim(mut value: i128, mut scale: u32) -> (i128, u32) {
    while scale > 0 && value % 10 == 0 {
        (value, scale) = (value / 10, scale - 1);
    }
    (value, scale)
}

/// `BigDecimal.hashCode` of Java, which old Hive used: the words of the absolute value, then sign and scale.
fn decimal_v1(value: i128, scale: u32) -> i32 {
    let (value, scale) = trim(value, scale);
    let size = value.unsigned_abs();
    // Leading words of zero add nothing to the sum.
    let words = (0..4).rev().map(|place| ((size >> (32 * place)) & 0xffff_ffff) as u32);
    let hash = words.fold(0_u32, |hash, word| hash.wrapping_mul(31).wrapping_add(word)).cast_signed();
    let signed = if value < 0 { hash.wrapping_neg() } else { hash };
    signed.wrapping_mul(31).wrapping_add(scale.cast_signed())
}

/// `BigInteger.toByteArray` of Java: big-endian, no byte more than the sign needs.
pub(crate) fn to_java_bytes(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    let spare = bytes.windows(2).take_while(|pair| pair[0] == sign && (pair[1] ^ sign) & 0x80 == 0).count();
    bytes[spare..].to_vec()
}

fn seconds_and_nanos(micros: i64) -> (i64, i64) {
    (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000) * 1000)
}

/// The bytes of Hive's `TimestampWritableV2`: 31 bits of the seconds and a flag; then, where there is a fraction or
/// there are more seconds, the fraction's nine digits reversed; then the other seconds, which the sign of the fraction
/// announces.
fn timestamp_bytes(micros: i64) -> Vec<u8> {
    let (seconds, nanos) = seconds_and_nanos(micros);
    let more_seconds = !(0..=i64::from(i32::MAX)).contains(&seconds);
    let low = (seconds & 0x7fff_ffff) as u32;
    if nanos == 0 && !more_seconds {
        return low.to_be_bytes().to_vec();
    }
    let reversed = (0..9).fold((0, nanos), |(done, left), _| (done * 10 + left % 10, left / 10)).0;
    let mut bytes = (low | 0x8000_0000).to_be_bytes().to_vec();
    push_vlong(&mut bytes, if more_seconds { -reversed - 1 } else { reversed });
    if more_seconds {
        push_vlong(&mut bytes, seconds >> 31);
    }
    bytes
}

/// `WritableUtils.writeVLong` of Hadoop: small numbers as they are, others behind a byte that says sign and length.
fn push_vlong(bytes: &mut Vec<u8>, value: i64) {
    if (-112..=127).contains(&value) {
        bytes.push((value as i8).cast_unsigned());
        return;
    }
    let (first, size) = if value < 0 { (-120_i8, !value) } else { (-112, value) };
    let length = 8 - size.leading_zeros() / 8;
    bytes.push((first - length as i8).cast_unsigned());
    bytes.extend_from_slice(&size.to_be_bytes()[8 - length as usize..]);
}
