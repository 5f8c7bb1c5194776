{{/* What works, but hardly as meant: a sentence each. */}}
{{- define "krypton.warnings" -}}
{{- $gateway := .Values.gateway }}
{{- if .Values.discovery.plaintext }}
- "discovery.plaintext: whoever reaches the controller's port 9090 learns all routes, and whoever answers in its place is believed. Remove it for TLS and tokens."
{{- end }}
{{- if and (not $gateway.autoscaling.enabled) (lt (int $gateway.replicas) 2) }}
- {{ ternary "gateway.replicas: with 0, every call fails. Set 2 or more." (printf "gateway.replicas: with %d, calls fail while a node is drained. Set 2 or more." (int $gateway.replicas)) (eq (int $gateway.replicas) 0) | quote }}
{{- end }}
{{- if lt (int .Values.manager.replicas) 2 }}
- {{ ternary "manager.replicas: with 0, no Agent gets pods and no gateway gets routes. Set 2." (printf "manager.replicas: with %d, nobody looks after Agents while it restarts. Set 2." (int .Values.manager.replicas)) (eq (int .Values.manager.replicas) 0) | quote }}
{{- end }}
{{- if and .Values.manager.enableWebhooks (eq .Values.webhooks.failurePolicy "Fail") }}
- "webhooks.failurePolicy: Fail refuses every change of an Agent while no controller answers. Ignore is safe: the schema still guards."
{{- end }}
{{- if and (include "krypton.isFronted" .) (not .Values.trustedProxies) }}
- "trustedProxies: empty, so agents see the ingress as their client. Set it to the network of your ingress's pods."
{{- end }}
{{- $trusted := .Values.trustedProxies | default list }}
{{- if or (has "0.0.0.0/0" $trusted) (has "::/0" $trusted) }}
- "trustedProxies: everybody is trusted, so a caller can claim to come from anywhere. Name the network of your ingress's pods."
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
- "podMonitor.enabled: serviceMonitor.enabled is set too, so every metric is read twice. Turn one off."
{{- end }}
{{- if and .Values.dashboards.enabled (not (.Files.Glob "files/dashboards/*.json")) }}
- "dashboards.enabled: this chart was packed without dashboards, so there are none."
{{- end }}
{{- if and (include "krypton.isFronted" .) (eq .Values.ingress.class "contour") (gt (include "krypton.milliseconds" .Values.ingress.readTimeout | int64) 300000) }}
- {{ printf "ingress.readTimeout: Contour cuts silence after 5m whatever an Ingress or a route says. Set timeouts.stream-idle-timeout: %s in its configuration, or ingress.readTimeout to 5m." .Values.ingress.readTimeout | quote }}
{{- end }}
{{- if and (include "krypton.isFronted" .) (ne .Values.ingress.class "contour") (le (include "krypton.milliseconds" .Values.ingress.readTimeout | int64) 300000) }}
- {{ printf "ingress.readTimeout: %s is not above 300s, which is how long an Agent without a timeout may be silent. Set it to 330s, or give every Agent a shorter timeout." .Values.ingress.readTimeout | quote }}
{{- end }}
{{- if and .Values.ingress.enabled (eq .Values.ingress.class "nginx") }}
- "ingress.class: nginx of F5 stores a whole upload before the agent sees it. If agents read streams, set location-snippets: \"proxy_request_buffering off;\" in its ConfigMap."
{{- end }}
{{- if and .Values.ingress.enabled (eq .Values.ingress.class "traefik") }}
- "ingress.class: Traefik cuts uploads, and streams in both directions, after 60s unless its entry point says transport.respondingTimeouts.readTimeout=0. Silence of an answer it never cuts."
{{- end }}
{{- end }}
