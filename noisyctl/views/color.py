"""Brightness, contrast, saturation, hue, grayscale and blur of a whole batch, with a strength for each sample.

Each function equals torchvision's function of the same name on one float image. Values are between 0 and 1, before
normalization. On images with one channel, saturation, hue and grayscale do nothing. The functions that end in `_one` do
the same with one image, from numbers that are known on the host: a processor computes large images one after another, see
the package.

Differs from torchvision on PIL images:
  - Nothing is rounded to 8 bits between the operations.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn.functional import pad

LUMA = (0.2989, 0.587, 0.114)  # weights of red, green and blue in gray, as in torchvision (ITU-R 601-2)
TINY = 1e-12  # least divisor, for gray pixels: they have no hue, and any finite number will do
LEAST_WEIGHT = 3e-8  # of a tap of the blur, relative to the middle one; float32 rounds at 6e-8
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # the numbers of the operations in `order`


def grayscale(images: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b ch h w"]:
    """Gray images, with as many channels as before."""
    return _gray(images).expand_as(images)


def adjust_brightness(
    images: Float[Tensor, "b ch h w"], factors: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Blend each image with black: a factor below 1 darkens it, one above 1 brightens it."""
    return (images * factors[:, None, None, None]).clamp_(0, 1)


def adjust_contrast(
    images: Float[Tensor, "b ch h w"], factors: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Blend each image with its mean gray: a factor below 1 lowers the contrast, one above 1 raises it."""
    return _blend(_gray(images).mean(dim=(1, 2, 3), keepdim=True), images, factors)


def adjust_saturation(
    images: Float[Tensor, "b ch h w"], factors: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Blend each image with its gray version: a factor below 1 lowers the saturation, one above 1 raises it."""
    return _blend(_gray(images), images, factors)


def adjust_hue(images: Float[Tensor, "b ch h w"], shifts: Float[Tensor, " b"]) -> Float[Tensor, "b ch h w"]:
    """Turn the hue by `shifts`, fractions of the full circle in -0.5..0.5; value and saturation (HSV) stay the same.

    With V the largest channel, C = V - the smallest channel, and the turned hue k in 0..6, a channel becomes V - C (1
    - u), where u is clamp(|k - 3| - 1) for red, clamp(2 - |k - 2|) for green and clamp(2 - |k - 4|) for blue.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    smallest, largest = images.amin(dim=1), images.amax(dim=1)
    chroma = largest - smallest
    sector = torch.where(largest == green, blue - red + 2 * chroma, red - green + 4 * chroma)
    hue = torch.where(largest == red, green - blue, sector) / chroma.clamp_min(TINY)
    k = torch.remainder(hue + 6 * shifts[:, None, None], 6)
    shares = torch.stack([(k - 3).abs() - 1, 2 - (k - 2).abs(), 2 - (k - 4).abs()], dim=1).clamp_(0, 1)
    return shares.mul_(chroma[:, None]).add_(smallest[:, None])


def adjust_hue_one(image: Float[Tensor, "ch h w"], shift: float) -> Float[Tensor, "ch h w"]:
    """The same for one image. Masks are numbers 0 and 1 here, since torch.where is slow on a processor."""
    if len(image) == 1:
        return image
    red, green, blue = image
    smallest, largest = image.amin(dim=0), image.amax(dim=0)
    chroma = largest - smallest
    not_red, not_green = (torch.sub(largest, channel).sign_() for channel in (red, green))
    at_green, at_blue = (
        torch.sub(a, b).add_(chroma, alpha=place) for a, b, place in ((blue, red, 2), (red, green, 4))
    )
    sector = torch.lerp(at_green, at_blue, not_green, out=at_green)
    hue = torch.lerp(green - blue, sector, not_red, out=sector)
    k = hue.div_(chroma.clamp_min(TINY)).add_(6 * shift)
    k.sub_((k / 6).floor_(), alpha=6)
    shares = torch.empty_like(image)
    torch.sub(k, 3, out=shares[0]).abs_().sub_(1)
    for i, middle in ((1, 2), (2, 4)):
        torch.sub(k, middle, out=shares[i]).abs_().neg_().add_(2)
    return torch.addcmul(smallest, shares.clamp_(0, 1), chroma, out=shares)


def color_jitter(
    images: Float[Tensor, "b ch h w"],
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    probability: float,
    rng: Generator,
) -> Float[Tensor, "b ch h w"]:
    """Brightness, contrast, saturation and hue in a random order, each image with probability `probability`.

    Factors are uniform in max(0, 1 - strength)..1 + strength. The shift of the hue is uniform in -hue..hue.
    """
    strengths = (brightness, contrast, saturation, hue)
    return jitter(images, *draw_jitter(len(images), strengths, probability, images.device, rng))


def draw_jitter(
    number: int,
    strengths: tuple[float, float, float, float],
    probability: float,
    device: torch.device,
    rng: Generator,
) -> tuple[Float[Tensor, "b 3"], Float[Tensor, " b"], Int[Tensor, "b 4"]]:
    """The factors of brightness, contrast and saturation, the shift of the hue, and the order of the four.

    An image that is left as it is has factors 1 and shift 0.
    """
    draws = torch.rand(number, 5, generator=rng, device=device)
    touched = draws[:, 0] < probability
    factors = torch.stack(
        [
            max(0.0, 1 - strength) + (1 + strength - max(0.0, 1 - strength)) * draws[:, 1 + i]
            for i, strength in enumerate(strengths[:3])
        ],
        dim=1,
    )
    factors = torch.where(touched[:, None], factors, 1)
    shifts = torch.where(touched, strengths[3] * (2 * draws[:, 4] - 1), 0)
    return factors, shifts, draw_orders(number, device, rng)


def draw_orders(number: int, device: torch.device, rng: Generator) -> Int[Tensor, "b 4"]:
    """A random order of BRIGHTNESS, CONTRAST, SATURATION and HUE for each sample."""
    return torch.rand(number, 4, generator=rng, device=device).argsort(dim=1)


def jitter(
    images: Float[Tensor, "b ch h w"],
    factors: Float[Tensor, "b 3"],
    shifts: Float[Tensor, " b"],
    order: Int[Tensor, "b 4"],
) -> Float[Tensor, "b ch h w"]:
    """Apply the four operations to each sample in its own `order`.

    `factors` are those of brightness, contrast and saturation; `shifts` those of the hue. The hue is slow to compute
    and the other operations are fast. So the hue of the whole batch is turned once, and the three others are computed
    both before and after it, with the neutral factor 1 where it is not a sample's turn. The samples therefore need
    not be sorted by their order.
    """
    hue_at = (order == HUE).int().argmax(dim=1, keepdim=True)
    places = torch.arange(3, device=images.device)
    others = order.gather(1, places + (places >= hue_at))
    early = places < hue_at
    factors = factors.gather(1, others)
    for i in range(3):
        images = _blend_one_of(others[:, i], images, torch.where(early[:, i], factors[:, i], 1))
    images = adjust_hue(images, shifts)
    for i in range(3):
        images = _blend_one_of(others[:, i], images, torch.where(early[:, i], 1, factors[:, i]))
    return images


def jitter_one(
    image: Float[Tensor, "ch h w"], factors: Sequence[float], shift: float, order: Sequence[int]
) -> Float[Tensor, "ch h w"]:
    """The same for one image; operations that change nothing are left out."""
    for operation in order:
        if operation == HUE:
            image = adjust_hue_one(image, shift) if shift else image
        elif factors[operation] != 1:
            factor = image.new_tensor([factors[operation]])
            image = _BLENDS[operation](image[None], factor)[0]
    return image


_BLENDS = (adjust_brightness, adjust_contrast, adjust_saturation)  # in the order of their numbers


def random_grayscale(
    images: Float[Tensor, "b ch h w"], probability: float, rng: Generator
) -> Float[Tensor, "b ch h w"]:
    """Turn each image gray with probability `probability`."""
    touched = draw_chosen(len(images), probability, images.device, rng)
    return torch.where(touched[:, None, None, None], _gray(images), images)


def draw_chosen(number: int, probability: float, device: torch.device, rng: Generator) -> Bool[Tensor, " b"]:
    """True for each sample with this probability."""
    return torch.rand(number, generator=rng, device=device) < probability


def gaussian_blur(
    images: Float[Tensor, "b ch h w"],
    sigma_range: tuple[float, float],
    probability: float,
    kernel: int,
    rng: Generator,
) -> Float[Tensor, "b ch h w"]:
    """Blur each image with probability `probability`; sigma is uniform in `sigma_range`, in pixels."""
    sigmas, chosen = draw_blurs(len(images), sigma_range, probability, images.device, rng)
    return torch.where(chosen[:, None, None, None], blur(images, sigmas, kernel), images)


def draw_blurs(
    number: int,
    sigma_range: tuple[float, float],
    probability: float,
    device: torch.device,
    rng: Generator,
) -> tuple[Float[Tensor, " b"], Bool[Tensor, " b"]]:
    """The sigma of each sample, and whether it is blurred."""
    draws = torch.rand(number, 2, generator=rng, device=device)
    return sigma_range[0] + (sigma_range[1] - sigma_range[0]) * draws[:, 0], draws[:, 1] < probability


def blur(
    images: Float[Tensor, "b ch h w"], sigmas: Float[Tensor, " b"], kernel: int
) -> Float[Tensor, "b ch h w"]:
    """A Gaussian of `kernel` (odd) taps in each direction, with reflected edges; `kernel` // 2 must be below h and w.

    It is computed as a sum of shifted images. That was as fast as a grouped convolution, and neither TF32 nor
    autocast lowers its precision.
    """
    h, w = images.shape[2:]
    reach = kernel // 2
    steps = torch.arange(-reach, reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (steps / sigmas[:, None]) ** 2)
    taps = (weights / weights.sum(dim=1, keepdim=True))[:, :, None, None, None].unbind(1)
    padded = pad(images, [reach] * 4, mode="reflect")
    down = padded[:, :, :h] * taps[0]
    for i in range(1, kernel):
        down.addcmul_(padded[:, :, i : i + h], taps[i])
    across = down[..., :w] * taps[0]
    for i in range(1, kernel):
        across.addcmul_(down[..., i : i + w], taps[i])
    return across


def blur_one(image: Float[Tensor, "ch h w"], sigma: float, kernel: int) -> Float[Tensor, "ch h w"]:
    """The same for one image, without the taps that the rounding of float32 would swallow.

    At the default range of sigma these are half of the 23 taps of an image of 224 pixels.
    """
    weights = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(kernel // 2 + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    taps = [weight / total for weight in weights if weight > LEAST_WEIGHT]
    reach, (h, w) = len(taps) - 1, image.shape[1:]
    padded = pad(image, [reach] * 4, mode="reflect")
    down = padded[:, reach : reach + h] * taps[0]
    for i in range(1, reach + 1):
        down.add_(padded[:, reach - i : reach - i + h], alpha=taps[i])
        down.add_(padded[:, reach + i : reach + i + h], alpha=taps[i])
    across = down[..., reach : reach + w] * taps[0]
    for i in range(1, reach + 1):
        across.add_(down[..., reach - i : reach - i + w], alpha=taps[i])
        across.add_(down[..., reach + i : reach + i + w], alpha=taps[i])
    return across


def _gray(images: Float[Tensor, "b ch h w"]) -> Float[Tensor, "b 1 h w"]:
    """Gray images, with one channel."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])[:, None]


def _blend(
    other: Float[Tensor, "b 1 #h #w"], images: Float[Tensor, "b ch h w"], factors: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """other + factor (images - other), clamped to 0..1; with factor 1 the images are unchanged, to the last bit."""
    return torch.lerp(other, images, factors[:, None, None, None]).clamp_(0, 1)


def _blend_one_of(
    operation: Int[Tensor, " b"], images: Float[Tensor, "b ch h w"], factors: Float[Tensor, " b"]
) -> Float[Tensor, "b ch h w"]:
    """Brightness, contrast or saturation for each image. All three are blends, which differ in what they blend with."""
    gray = _gray(images)
    mean = gray.mean(dim=(1, 2, 3), keepdim=True)
    other = gray * _mask(operation == SATURATION) + mean * _mask(operation == CONTRAST)
    return _blend(other, images, factors)


def _mask(chosen: Bool[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
    return chosen[:, None, None, None].float()
