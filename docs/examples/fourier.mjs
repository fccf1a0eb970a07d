/** Return the discrete Fourier transform of complex numbers [real, imaginary]; with sign 1 the unscaled inverse one. */
export function transform(numbers, sign) {
  const length = numbers.length;
  if (length === 1) return numbers;
  let factor = 2;
  while (length % factor) factor++;
  const parts = Array.from({ length: factor }, (_, start) =>
    transform(numbers.filter((_, index) => index % factor === start), sign));
  return numbers.map((_, k) => {
    const sum = [0, 0];
    parts.forEach((part, start) => {
      const [real, imaginary] = part[k % part.length], angle = (sign * 2 * Math.PI * ((start * k) % length)) / length;
      sum[0] += real * Math.cos(angle) - imaginary * Math.sin(angle);
      sum[1] += real * Math.sin(angle) + imaginary * Math.cos(angle);
    });
    return sum;
  });
}
