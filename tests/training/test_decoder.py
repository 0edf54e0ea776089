import pytest
import torch
from tiny import make_tiny_model
from tiny_pruner import GRID, SHAPE, make_module, make_options, make_samples

from stages.backbone.qwen import QWEN_3B, DecoderStack, decoder_shape, first_layers
from stages.core.errors import ParamsError
from stages.training.decoder import PixelDecoder, grid_waves, narrowed, unpatchify
from stages.training.model import build, losses


def test_the_papers_decoder_has_467_million_parameters():
    with torch.device("meta"):
        decoder = PixelDecoder(2048, QWEN_3B, layers=6, pixels_per_token=28)
    assert sum(p.numel() for p in decoder.stack.parameters()) == 6 * 77_076_992
    assert sum(p.numel() for p in decoder.head.parameters()) == 2048 * 2352 + 2352
    assert sum(p.numel() for p in decoder.parameters()) == 467_281_200


def test_each_token_paints_its_own_square():
    pixels = torch.arange(2 * 3 * 12).view(1, 6, 12).float()
    image = unpatchify(pixels, (2, 3))
    assert image.shape == (1, 3, 4, 6)
    assert image[0, 0, :2, :2].flatten().tolist() == pixels[0, 0, :4].tolist()
    assert image[0, 2, 2:, 4:].flatten().tolist() == pixels[0, 5, 8:].tolist()


def test_what_the_decoder_reads_has_deviation_one_and_is_not_centred():
    module = make_module(make_options())
    tokens = 10.0 + 2.0 * torch.randn(40, 24, SHAPE.width, generator=torch.Generator().manual_seed(0))
    module.pruner.set_statistics(tokens.flatten(0, 1))
    read = []
    module.decoder.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    rebuilt = module(tokens, GRID)
    kept = read[0].detach()[:40][rebuilt.keep.bool()]
    assert kept.mean().item() == pytest.approx(5.0, abs=0.3)
    assert kept.std().item() == pytest.approx(1.0, abs=0.1)


def test_every_place_of_a_grid_has_a_code_of_its_own():
    code = grid_waves((57, 57), 96)
    assert code.shape == (57 * 57, 96)
    assert torch.cdist(code, code).fill_diagonal_(9.0).min() > 0.1
    assert float(code.std()) == pytest.approx(0.7, abs=0.1)
    assert torch.equal(grid_waves((3, 4), 96).view(3, 4, 96), code.view(57, 57, 96)[:3, :4])


def test_zeroed_tokens_are_told_apart_by_the_code_and_by_nothing_else():
    decoder = PixelDecoder(24, SHAPE, layers=1, pixels_per_token=4)
    painted = decoder(torch.zeros(1, 24, 24), GRID).view(3, 4, 4, 6, 4).permute(1, 3, 0, 2, 4).reshape(24, -1)
    assert torch.cdist(painted, painted).fill_diagonal_(9.0).min() > 1e-4
    bare = DecoderStack(SHAPE, 1)
    positions = torch.arange(24).expand(3, 1, -1)
    alike = bare(torch.zeros(1, 24, 24), positions)[0]
    assert torch.allclose(alike, alike[:1].expand(24, -1), atol=1e-6)


def test_a_dropped_tokens_gradient_is_as_large_as_a_kept_ones():
    decoder = PixelDecoder(24, SHAPE, layers=1, pixels_per_token=4)
    tokens = torch.randn(1, 24, 24)
    tokens[:, ::2] = 0
    tokens.requires_grad_()
    decoder(tokens, GRID).square().sum().backward()
    norms = tokens.grad[0].norm(dim=1)
    assert norms[::2].mean() < 10 * norms[1::2].mean()


def test_a_narrow_layer_keeps_the_head_size():
    shape = narrowed(SHAPE, 12)
    assert (shape.width, shape.heads, shape.kv_heads, shape.mlp) == (12, 1, 1, 16)
    assert narrowed(QWEN_3B, 2048) == QWEN_3B
    with pytest.raises(ParamsError, match="multiple of the encoder's head size 12"):
        narrowed(SHAPE, 20)


def test_both_branches_are_painted_as_each_would_be_alone():
    module = make_module(make_options())
    (batch,) = make_samples(2).batches([[0, 1]])
    rebuilt = module(batch.tokens, GRID)
    assert rebuilt.fore.shape == rebuilt.back.shape == (2, 3, 16, 24)
    alone = module.decoder(batch.tokens / module.pruner.std * rebuilt.keep[:, :, None], GRID)
    torch.testing.assert_close(rebuilt.fore, alone, atol=1e-5, rtol=1e-5)
    (rebuilt.fore - 0.5).square().sum().backward()  # the gradient reaches query, scorer and layer
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in module.pruner.parameters())


def test_worked_out_again_in_the_backward_pass_it_gives_the_same_gradients() -> None:
    (batch,) = make_samples(2).batches([[0, 1]])
    gradients = []
    for recompute in (False, True):
        module = make_module(make_options(recompute=recompute, decoder_layers=2))
        losses(module(batch.tokens, GRID), batch, make_options())[0].backward()
        gradients.append([p.grad for p in module.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_layers_start_as_the_checkpoints_first_ones() -> None:
    model = make_tiny_model()
    shape = decoder_shape(model)
    options = make_options(init="checkpoint", decoder_layers=2, decoder_width=shape.width)
    module = build(shape, options, first_layers(model, 2))
    for own, layer in (
        (module.pruner.layer.layers[0], 0),
        (module.decoder.stack.layers[0], 0),
        (module.decoder.stack.layers[1], 1),
    ):
        theirs = model.model.language_model.layers[layer].state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in own.state_dict().items())


@pytest.mark.parametrize("changes", [{"decoder_width": 12}, {"decoder_layers": 3}])
def test_a_decoder_that_the_checkpoint_cannot_start_is_refused(changes: dict[str, int]) -> None:
    model = make_tiny_model()
    wanted = {"decoder_layers": 2, "decoder_width": 24} | changes
    with pytest.raises(ParamsError, match="at most 2 layers of width 24.*init to random"):
        build(decoder_shape(model), make_options(init="checkpoint", **wanted), first_layers(model, 2))
