"""PyTorch SmolRGPT.

Legend: Q questions, I unique images, N unique regions over all images, R most regions of a question, T text tokens, S image side in pixels,
P image tokens, G side of the map that regions are pooled from, C vision width, D text width, F geometry features, V 1 or 2 (RGB, depth).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling
from transformers.modeling_utils import slice_logits_to_keep
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .backbones import join_backbones
from .configuration_smolrgpt import REGION_SIZES, SmolRGPTConfig
from .connectors import SmolRGPTConnector, SmolRGPTRefiner, SmolRGPTUpsample
from .estimates import EstimateOutput
from .inputs import (
    DECODE_INPUTS,
    ENCODE_INPUTS,
    IMAGE_INPUTS,
    QUESTION_INPUTS,
    SmolRGPTInputs,
    SmolRGPTKwargs,
    SmolRGPTTargets,
    SmolRGPTTrainingKwargs,
    split_inputs,
)
from .length_reader import SmolRGPTLengthReader
from .outputs import SmolRGPTCausalLMOutputWithPast, SmolRGPTFeatures, SmolRGPTModelOutputWithPast
from .packing import read_packed
from .placeholders import check_placeholders, default_image_index
from .region_embedding import (
    FanInLinear,
    RegionFeatures,
    ScaledLayerNorm,
    SmolRGPTGeometryEmbedder,
    SmolRGPTGeometryHead,
    SmolRGPTPairEmbedder,
    SmolRGPTSizeEmbedder,
    embedding_scale,
    geometry_loss,
    length_loss,
    pool_masks,
    vertical_log_distance,
)
from .region_names import latest_regions, latest_size_words, named_regions

#: Options that need the rows as they are, so that questions cannot share a row.
UNPACKED_OPTIONS = ("output_hidden_states", "output_attentions", "use_cache")


class SmolRGPTPreTrainedModel(PreTrainedModel):
    """Base class of the models: initialises weights and sets options of the transformers library."""

    config: SmolRGPTConfig
    config_class = SmolRGPTConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, FanInLinear | EstimateOutput | SmolRGPTUpsample):
            init.normal_(module.weight, std=module.initial_std)
        if isinstance(module, ScaledLayerNorm):
            init.constant_(module.weight, module.initial_scale)


class SmolRGPTModel(SmolRGPTPreTrainedModel):
    """Vision tower, connectors, refiners, region embedders and the language model, without its head."""

    def __init__(self, config: SmolRGPTConfig):
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.rgb_connector = SmolRGPTConnector(config, config.pixel_shuffle_factor)
        if self.uses_depth:
            self.depth_connector = SmolRGPTConnector(config, config.pixel_shuffle_factor)
        if config.refiner_stages and "rgb" in config.pooled_tokens:
            self.rgb_refiner = SmolRGPTRefiner(config)
        if config.refiner_stages and self.uses_depth:
            self.depth_refiner = SmolRGPTRefiner(config)
        if config.region_norm:
            width, scale = config.text_config.hidden_size, embedding_scale(config)
            self.region_norms = nn.ModuleDict({kind: ScaledLayerNorm(width, scale) for kind in config.pooled_tokens})
        if "geo" in config.region_tokens:
            self.geometry_embedder = SmolRGPTGeometryEmbedder(config)
        if config.pair_geometry:
            self.pair_embedder = SmolRGPTPairEmbedder(config)
        if config.estimates_sizes:
            self.size_embedder = SmolRGPTSizeEmbedder(config)
        if config.copies_lengths:
            self.length_reader = SmolRGPTLengthReader(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    @property
    def uses_depth(self) -> bool:
        """Whether regions are pooled from encoded depth images."""
        return "depth" in self.config.pooled_tokens

    # ----------------------------------------------------------------------------------------------------- images and regions
    def encode_patches(self, pixel_values: Tensor) -> Tensor:
        """Encode images (I, 3, S, S) as final-norm patch features (I, patches, C). Builds no graph when the tower is frozen."""
        trainable = torch.is_grad_enabled() and any(p.requires_grad for p in self.vision_tower.parameters())
        with torch.set_grad_enabled(trainable):
            hidden = self.vision_tower(pixel_values.to(self.dtype)).last_hidden_state
        patch = self.config.vision_config.patch_size
        count = (pixel_values.shape[-2] // patch) * (pixel_values.shape[-1] // patch)
        patches: Tensor = hidden[:, hidden.shape[1] - count :]  # class and register tokens come first, where a tower has them
        return patches

    def get_patch_features(self, pixel_values: Tensor, depth_values: Tensor | None = None, with_maps: bool = True) -> Tensor:
        """Encode RGB and depth images (I, 3, S, S) in one pass as patch features (V, I, patches, C), RGB first.

        Depth is left out (V = 1) without maps, or when no region token needs it. Raises ValueError when it is needed and missing.
        """
        if not (with_maps and self.uses_depth):
            return self.encode_patches(pixel_values)[None]
        if depth_values is None:
            raise ValueError("depth_values is missing but region_tokens has 'depth'; pass it (the processor writes zeros for no depth)")
        if depth_values.shape != pixel_values.shape:
            raise ValueError(f"depth_values is {tuple(depth_values.shape)}, pixel_values {tuple(pixel_values.shape)}; they must be alike")
        patches: Tensor = self.encode_patches(torch.cat([pixel_values, depth_values])).unflatten(0, (2, -1))
        return patches

    def connect_patches(self, patch_features: Tensor, with_maps: bool = True) -> SmolRGPTFeatures:
        """Map patch features (V, I, patches, C) to image tokens and, `with_maps`, the maps that regions are pooled from.

        Raises ValueError when maps of depth are needed and its features missing.
        """
        features = SmolRGPTFeatures(self.rgb_connector(patch_features[0]))
        if with_maps and "rgb" in self.config.pooled_tokens:
            features.region_maps["rgb"] = self.refiner_of("rgb")(features.image_embeds)
        if with_maps and self.uses_depth:
            if len(patch_features) < 2:
                raise ValueError("patch_features holds no depth but region_tokens has 'depth'; encode the images with maps")
            features.region_maps["depth"] = self.refiner_of("depth")(self.connector_of("depth")(patch_features[1]))
        return features

    def connector_of(self, kind: str) -> nn.Module:
        """Return the connector of a pooled kind; it maps (I, patches, C) to (I, P, D)."""
        return self.depth_connector if kind == "depth" else self.rgb_connector

    def refiner_of(self, kind: str) -> nn.Module:
        """Return the refiner of a pooled kind; it maps (I, P, D) to (I, G*G, D); the identity without refiners."""
        if not self.config.refiner_stages:
            return nn.Identity()
        return self.depth_refiner if kind == "depth" else self.rgb_refiner

    def encode_images(self, pixel_values: Tensor, depth_values: Tensor | None = None, with_maps: bool = True) -> SmolRGPTFeatures:
        """Encode images: `connect_patches` of `get_patch_features`."""
        return self.connect_patches(self.get_patch_features(pixel_values, depth_values, with_maps), with_maps)

    def pool_regions(
        self,
        region_maps: Mapping[str, Tensor],
        region_masks: Tensor,
        region_image_index: Tensor | None = None,
        region_geometry: Tensor | None = None,
    ) -> RegionFeatures:
        """Pool the features of regions of encoded images.

        Args:
            region_maps: of `encode_images`.
            region_masks: (N, g, g) area fractions.
            region_image_index: (N,) into the maps' images; all of the first when omitted.
            region_geometry: (N, F), needed for the geometry token.

        Raises:
            ValueError: when geometry is needed and missing, or has another number of columns than in training.
        """
        if region_image_index is None:
            region_image_index = torch.zeros(len(region_masks), dtype=torch.long, device=region_masks.device)
        features = RegionFeatures()
        for kind in self.config.pooled_tokens:
            pooled = pool_masks(region_maps[kind], region_masks, region_image_index)
            features.tokens[kind] = self.region_norms[kind](pooled) if self.config.region_norm else pooled
        if "geo" in self.config.region_tokens:
            geometry = self._check_geometry(region_geometry)
            features.tokens["geo"] = self.geometry_embedder(geometry[:, : self.config.scale_free_geometry_dim])
            if self.config.estimates_sizes:
                features.log_sizes = self.size_embedder(geometry, features.fused)
            if self.config.copies_lengths:
                lengths = self.length_reader.region_estimator(geometry, features.fused)
                features.log_sizes, features.log_spreads = lengths.value, lengths.spread
                features.coverage = region_masks.flatten(1).to(self.dtype)
            if self.config.pair_geometry or self.config.copies_lengths:
                features.geometry = geometry
        return features

    def _check_geometry(self, region_geometry: Tensor | None) -> Tensor:
        if region_geometry is None:
            raise ValueError("region_geometry is missing but region_tokens has 'geo'; pass what the processor returned")
        if region_geometry.shape[1] != self.config.geometry_dim:
            raise ValueError(
                f"region_geometry has {region_geometry.shape[1]} columns, this model learned from {self.config.geometry_dim}; "
                "use the version of smolrgpt that it was trained with, or train it again"
            )
        return region_geometry

    def encode(
        self,
        pixel_values: Tensor | None = None,
        depth_values: Tensor | None = None,
        region_masks: Tensor | None = None,
        region_image_index: Tensor | None = None,
        region_geometry: Tensor | None = None,
        patch_features: Tensor | None = None,
    ) -> SmolRGPTFeatures:
        """Encode a batch's images and regions; inputs as in `SmolRGPTInputs`. Refiners run only when there are regions."""
        with_maps = region_masks is not None and len(region_masks) > 0 and bool(self.config.region_tokens)
        if patch_features is None:
            if pixel_values is None:
                raise ValueError("pass pixel_values or patch_features")
            features = self.encode_images(pixel_values, depth_values, with_maps)
        else:
            features = self.connect_patches(patch_features, with_maps)
        if with_maps and region_masks is not None:
            features.region_features = self.pool_regions(features.region_maps, region_masks, region_image_index, region_geometry)
        return features

    @can_return_tuple
    def get_image_features(self, pixel_values: Tensor, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        """Encode RGB images (I, 3, S, S): `last_hidden_state` (I, patches, C) and, as `pooler_output`, image tokens (I, P, D)."""
        patches = self.encode_patches(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=patches, pooler_output=self.rgb_connector(patches))

    # ---------------------------------------------------------------------------------------------------------- placeholders
    def get_placeholder_mask(
        self,
        input_ids: Tensor,
        image_embeds: Tensor | None,
        region_features: RegionFeatures | None,
        image_index: Tensor | None,
        region_index: Tensor | None,
        check: bool = True,
    ) -> dict[str, Tensor]:
        """Return where features replace tokens: a (Q, T) mask for "image" and, with `region_fusion` "tokens", for each region token.

        `check` is off in an answer, which may hold any token; else see `check_placeholders`.

        Raises:
            ValueError: naming the first question whose placeholders do not match its image and regions, and both counts.
        """
        kinds = ("image", *(self.config.region_tokens if self.config.region_fusion == "tokens" else ()))
        masks = {kind: input_ids.eq(self.config.placeholder_token_ids[kind]) for kind in kinds}
        if check:
            check_placeholders(self.config, input_ids, masks, image_embeds, region_features, image_index, region_index)
        return masks

    def merge(
        self,
        input_ids: Tensor,
        image_embeds: Tensor | None,
        region_features: RegionFeatures | None,
        image_index: Tensor | None,
        region_index: Tensor | None,
        decoding: bool = False,
        context_ids: Tensor | None = None,
        given_lengths: Tensor | None = None,
    ) -> Tensor:
        """Embed token ids (Q, T) as (Q, T, D) with every placeholder replaced by its feature, in order of appearance.

        With `region_fusion` "name" regions have no placeholders: their features are added to their names. Placeholders are not checked
        while `decoding`. Other inputs as in `SmolRGPTInputs`.
        """
        if image_embeds is not None and image_index is None:
            image_index = default_image_index(len(input_ids), len(image_embeds), input_ids.device)
        masks = self.get_placeholder_mask(input_ids, image_embeds, region_features, image_index, region_index, check=not decoding)
        embeds: Tensor = self.get_input_embeddings()(input_ids)  # (Q, T, D)
        if image_embeds is not None and image_index is not None:
            rows = image_index[masks["image"].any(1)]  # questions without image tokens take no image
            embeds = embeds.masked_scatter(masks["image"][..., None], image_embeds.to(embeds.dtype)[rows])
        if region_index is None or not region_features:
            return embeds
        if self.config.region_fusion == "name":
            embeds = self._add_to_names(embeds, input_ids, region_features, region_index, context_ids)
            if self.config.copies_lengths:
                embeds = self.length_reader(
                    embeds, input_ids if context_ids is None else context_ids, region_features, region_index, given_lengths
                )
            return embeds
        rows = region_index[region_index >= 0]  # (regions mentioned,) question by question
        for kind in self.config.region_tokens:
            embeds = embeds.masked_scatter(masks[kind][..., None], region_features.tokens[kind].to(embeds.dtype)[rows])
        return embeds

    def _add_to_names(
        self, embeds: Tensor, input_ids: Tensor, region_features: RegionFeatures, region_index: Tensor, context_ids: Tensor | None
    ) -> Tensor:
        """Add to embeddings (Q, T, D) the features that names carry, and those that the tokens after names carry.

        A name carries its region's features, summed over kinds. The second of two adjacent names and the tokens after it carry the pair's
        embedding; the tokens from a size word that directly follows a name carry the estimated length.
        """
        length = input_ids.shape[1]
        context_ids = input_ids if context_ids is None else context_ids
        context = named_regions(self.config, context_ids, region_index)  # (Q, T0 + T)
        region = context[:, -length:]  # (Q, T)
        is_name = region >= 0
        vectors = region_features.fused.to(embeds.dtype)
        embeds = embeds.index_put(is_name.nonzero(as_tuple=True), vectors[region[is_name]], accumulate=True)
        if not self.config.pair_geometry and not self.config.estimates_sizes:
            return embeds
        before, latest = (rows[:, -length:] for rows in latest_regions(context))
        is_pair = before >= 0
        if region_features.log_sizes is not None:
            size = latest_size_words(context_ids, context, self.config.ordered_size_word_ids)[:, -length:]
            embeds = self._add_lengths(embeds, region_features.log_sizes, before, latest, size)
            is_pair = is_pair & (size < len(REGION_SIZES))  # a vertical distance replaces the pair's embedding
        if region_features.geometry is None:
            return embeds
        pairs, index = torch.stack([before[is_pair], latest[is_pair]], 1).unique(dim=0, return_inverse=True)
        geometry = region_features.geometry
        embedded = self.pair_embedder(geometry[pairs[:, 0]], geometry[pairs[:, 1]]).to(embeds.dtype)
        return embeds.index_put(is_pair.nonzero(as_tuple=True), embedded[index], accumulate=True)

    def _add_lengths(self, embeds: Tensor, log_sizes: Tensor, before: Tensor, latest: Tensor, size: Tensor) -> Tensor:
        """Add estimated lengths to embeddings (Q, T, D) after size words.

        before, latest: (Q, T) as of `latest_regions`; size: (Q, T) as of `latest_size_words`.
        """
        is_vertical_gap = (before >= 0) & (size >= len(REGION_SIZES))
        is_length = is_vertical_gap | (size >= 0) & (size < len(REGION_SIZES))
        log_b, log_a = (log_sizes[rows[is_length], size[is_length]] for rows in (latest, before))
        log_metres = torch.where(is_vertical_gap[is_length], vertical_log_distance(log_a, log_b), log_b)
        embedded = self.size_embedder.embed_length(log_metres).to(embeds.dtype)
        return embeds.index_put(is_length.nonzero(as_tuple=True), embedded, accumulate=True)

    def _needs_features(self, input_ids: Tensor) -> bool:
        ids = torch.tensor([*self.config.placeholder_token_ids.values(), *self.config.region_name_token_ids], device=input_ids.device)
        return bool(torch.isin(input_ids, ids).any())

    # --------------------------------------------------------------------------------------------------------------- forward
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Unpack[SmolRGPTKwargs],
    ) -> SmolRGPTModelOutputWithPast:
        """Run the language model on questions about images and regions; returns hidden states.

        Args:
            input_ids: (Q, T), left padded.
            attention_mask: (Q, T).
            position_ids: (Q, T).
            past_key_values: the cache of earlier tokens.
            inputs_embeds: (Q, T, D) instead of `input_ids`.
            **kwargs: images and regions, see `SmolRGPTInputs`; others go to the language model.

        Raises:
            ValueError: when placeholders and features do not match.
        """
        inputs, options = split_inputs(kwargs)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        if sum(inputs.get(name) is not None for name in ("pixel_values", "patch_features", "image_embeds")) > 1:
            raise ValueError("pass only one of pixel_values, patch_features and image_embeds")
        image_embeds, region_features = inputs.get("image_embeds"), inputs.get("region_features")
        if input_ids is not None:
            has_pixels = inputs.get("pixel_values") is not None or inputs.get("patch_features") is not None
            if has_pixels and self._needs_features(input_ids):
                features = self.encode(**cast(dict[str, Any], {name: inputs.get(name) for name in ENCODE_INPUTS}))
                image_embeds, region_features = features.image_embeds, features.region_features
            decoding = past_key_values is not None and past_key_values.get_seq_length() > 0
            indices = inputs.get("image_index"), inputs.get("region_index")
            context = inputs.get("context_ids"), inputs.get("given_lengths")
            inputs_embeds = self.merge(input_ids, image_embeds, region_features, *indices, decoding, *context)
        outputs = self._read(
            cast(Tensor, inputs_embeds),
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **options,
        )
        return SmolRGPTModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_embeds=image_embeds,
            region_features=region_features,
        )

    def _read(self, inputs_embeds: Tensor, attention_mask: Tensor | None, **options: Any) -> BaseModelOutputWithPast:
        """Run the language model on (Q, T, D). In training, questions are packed into rows without padding where possible."""
        needs_rows = any(options.get(name) is not None for name in ("past_key_values", "position_ids"))
        needs_rows = needs_rows or any(options.get(name) for name in UNPACKED_OPTIONS)
        if self.training and not needs_rows and attention_mask is not None and attention_mask.dim() == 2:
            return read_packed(self.language_model, inputs_embeds, attention_mask, **options)
        return cast(BaseModelOutputWithPast, self.language_model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **options))


class SmolRGPTForConditionalGeneration(SmolRGPTPreTrainedModel, GenerationMixin):
    """SmolRGPT with its language model head: `forward` for training, `generate` for answers."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    main_input_name = "input_ids"
    model: SmolRGPTModel
    lm_head: nn.Module
    #: Class of ``model``; variants of the model change it.
    model_class: ClassVar[type[SmolRGPTModel]] = SmolRGPTModel

    def __init__(self, config: SmolRGPTConfig):
        super().__init__(config)
        self.model = self.model_class(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        if config.predicts_geometry:
            self.geometry_heads = nn.ModuleDict({kind: SmolRGPTGeometryHead(config) for kind in config.pooled_tokens})
        self.post_init()
        # a placeholder in an answer would have no feature
        self.generation_config.suppress_tokens = sorted(config.placeholder_token_ids.values())

    @classmethod
    def from_backbones(
        cls, vision: str, text: str, *, attn_implementation: str | None = None, **config: Any
    ) -> SmolRGPTForConditionalGeneration:
        """Build a model in float32 whose vision tower and language model are pretrained; its other modules are new.

        Args:
            vision: hub id or folder of a SigLIP or SigLIP2 pair or tower of fixed resolution, of a Dinov2 tower, or of a SmolRGPT, whose
                tower is taken. Pooling head, mask token and text side are dropped.
            text: hub id or folder of a causal language model of the Llama family, tied head or not, or of a SmolRGPT, whose language model
                is taken.
            attn_implementation: of the library: "eager", "sdpa", ...
            config: fields of `SmolRGPTConfig`. `vision_config` and `text_config` are changes to the backbones' own: another `image_size`
                resamples the position embeddings once; a larger `vocab_size` appends rows (see `append_rows`), a smaller one is ignored.
                Without an `image_token_id` the vocabulary is extended as `text`'s tokenizer is (see `SmolRGPTProcessor.from_backbones`).

        Raises:
            ValueError: naming each weight that a checkpoint lacks or that the model has no use for.
        """
        return cast(SmolRGPTForConditionalGeneration, join_backbones(cls, vision, text, attn_implementation, config))

    def encode(self, *args: Any, **kwargs: Any) -> SmolRGPTFeatures:
        """Encode images and regions; see `SmolRGPTModel.encode`."""
        return self.model.encode(*args, **kwargs)

    def encode_images(self, *args: Any, **kwargs: Any) -> SmolRGPTFeatures:
        """Encode images; see `SmolRGPTModel.encode_images`."""
        return self.model.encode_images(*args, **kwargs)

    def pool_regions(self, *args: Any, **kwargs: Any) -> RegionFeatures:
        """Pool features of regions; see `SmolRGPTModel.pool_regions`."""
        return self.model.pool_regions(*args, **kwargs)

    def get_image_features(self, pixel_values: Tensor, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutputWithPooling:
        """Encode RGB images; see `SmolRGPTModel.get_image_features`."""
        features: BaseModelOutputWithPooling = self.model.get_image_features(pixel_values, **kwargs)
        return features

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Unpack[SmolRGPTTrainingKwargs],
    ) -> SmolRGPTCausalLMOutputWithPast:
        """Compute loss or logits of questions; the text inputs are those of `SmolRGPTModel.forward`.

        `labels`: (Q, T) int64, -100 ignored, not shifted (position t holds token t). `logits_to_keep`: how many last positions have logits;
        0: all, or none with labels. Other keyword arguments: images, regions and known lengths, see `SmolRGPTTrainingKwargs`.
        """
        options: dict[str, Any] = {**kwargs}
        targets = {name: options.pop(name, None) for name in SmolRGPTTargets.__optional_keys__}
        num_items = options.pop("num_items_in_batch", None)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **options,
        )
        keep_logits = labels is None or isinstance(logits_to_keep, Tensor) or logits_to_keep > 0
        losses = {}
        if self.training and labels is not None and outputs.region_features:
            losses = self._auxiliary_losses(outputs.region_features, kwargs.get("region_geometry"), **targets)
        return SmolRGPTCausalLMOutputWithPast(
            loss=None if labels is None else self._answer_loss(outputs.last_hidden_state, labels, num_items),
            logits=self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep)) if keep_logits else None,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_embeds=outputs.image_embeds,
            region_features=outputs.region_features,
            **losses,
        )

    def _answer_loss(self, hidden: Tensor, labels: Tensor, num_items: int | Tensor | None) -> Tensor:
        """Compute the cross entropy on the labelled positions only, over `num_items` or this batch's number of labelled tokens."""
        targets = labels[:, 1:].to(hidden.device)
        labelled = targets != -100
        logits = self.lm_head(hidden[:, :-1][labelled]).float()  # (labelled, vocabulary)
        total = functional.cross_entropy(logits, targets[labelled], reduction="sum")
        count = labelled.sum() if num_items is None else torch.as_tensor(num_items, device=total.device)
        return total / count.clamp(min=1)  # 0 when every image of a step was unreadable

    def _auxiliary_losses(
        self,
        features: RegionFeatures,
        geometry: Tensor | None,
        pair_index: Tensor | None,
        pair_distance: Tensor | None,
        size_index: Tensor | None,
        region_size: Tensor | None,
    ) -> dict[str, Tensor | None]:
        """Compute the unweighted losses of the modules that exist, by output field; None where their targets are missing."""
        losses: dict[str, Tensor | None] = {}
        if self.config.predicts_geometry:
            if geometry is None:
                raise ValueError("region_geometry is missing but predicts_geometry is on; pass what the processor returned")
            target = geometry[:, : self.config.scale_free_geometry_dim]
            losses["geometry_loss"] = geometry_loss((head(features.tokens[kind]) for kind, head in self.geometry_heads.items()), target)
        if self.config.copies_lengths:
            return losses | self.model.length_reader.losses(features, pair_index, pair_distance, size_index, region_size)
        if self.config.estimates_distance and pair_index is not None and pair_distance is not None and features.geometry is not None:
            geometry_a, geometry_b = features.geometry[pair_index].unbind(1)
            losses["distance_loss"] = length_loss(self.model.pair_embedder.log_distance(geometry_a, geometry_b), pair_distance)
        if size_index is not None and region_size is not None and features.log_sizes is not None:
            estimated = features.log_sizes[size_index]
            losses["size_loss"] = length_loss(estimated, region_size[:, : estimated.shape[1]])
        return losses

    # ------------------------------------------------------------------------------------------------------------ generation
    def _validate_model_kwargs(self: Any, model_kwargs: dict[str, Any]) -> None:
        """Refuse unknown inputs of `generate`; the library accepts those in the signature of `forward` only."""
        known = SmolRGPTInputs.__optional_keys__
        GenerationMixin._validate_model_kwargs(self, {name: value for name, value in model_kwargs.items() if name not in known})

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: Any = None,
        **model_kwargs: Any,
    ) -> tuple[Any, dict[str, Any]]:
        """Repeat questions for beams and several answers, but not the images and regions they point at."""
        images = {name: model_kwargs.pop(name) for name in IMAGE_INPUTS if name in model_kwargs}
        given = next((images[name] for name in ("pixel_values", "image_embeds") if images.get(name) is not None), None)
        if given is not None and input_ids is not None and model_kwargs.get("image_index") is None:
            model_kwargs["image_index"] = default_image_index(len(input_ids), len(given), input_ids.device)
        input_ids, model_kwargs = super()._expand_inputs_for_generation(  # type: ignore[misc]
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )
        return input_ids, {**model_kwargs, **images}

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Any, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Pass images and regions with the prompt, then only `DECODE_INPUTS` where names carry features."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(  # type: ignore[misc]
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            kept = DECODE_INPUTS if self.config.region_fusion == "name" else ()
            inputs["context_ids"] = input_ids
            for name in (*IMAGE_INPUTS, *QUESTION_INPUTS):
                if name not in kept:
                    inputs.pop(name, None)
        return inputs

    def _update_model_kwargs_for_generation(self, outputs: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Pass the regions' features on to the next step, for names in the answer."""
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        if self.config.region_fusion == "name" and outputs.region_features is not None:
            model_kwargs["region_features"] = outputs.region_features
        return model_kwargs


__all__ = ["SmolRGPTForConditionalGeneration", "SmolRGPTModel", "SmolRGPTPreTrainedModel"]
