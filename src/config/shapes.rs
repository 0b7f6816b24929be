//! Twelve shapes of public configurations, re-invented, from the simplest to the nastiest.

pub(super) const THE_TWO_BLOCK_FORWARDER: &str = r##"<source>
  @type tail
  path /var/log/httpd/access_log
  pos_file /var/log/td-agent/httpd-access.pos
  format none
  tag web.access
</source>
<match **>
  @type forward
  <server>
    host 10.1.2.3
    port 24224
  </server>
</match>
"##;

pub(super) const THE_V0_12_APACHE_PAIR: &str = r##"<source>
  type monitor_agent
  bind 127.0.0.1
  port 24220
</source>
<source>
  type tail
  path /var/log/httpd/access_log
  format /^(?<client>\S+) \S+ (?<user>\S+) \[(?<time>[^\]]+)\] "(?<verb>\S+)(?: +(?<uri>\S*) +\S*)?" (?<status>\d+) (?<bytes>\S+)/
  time_format %d/%b/%Y:%H:%M:%S %z
  pos_file /var/log/td-agent/pos/httpd.pos
  tag apache.intra.access
</source>
<source>
  type tail
  path /var/log/httpd/error_log
  format /^\[\w+ (?<time>[^\]]+)\] \[(?<level>[^\]]+)\] (?<message>.*)$/
  time_format %b %d %H:%M:%S %Y
  pos_file /var/log/td-agent/pos/httpd-err.pos
  tag apache.intra.error
</source>
<match apache.*.*>
  type forward
  send_timeout 60s
  recover_wait 10s
  heartbeat_type udp
  heartbeat_interval 1s
  flush_interval 1s
  <server>
    host 10.1.2.3
    port 24224
  </server>
</match>
"##;

pub(super) const THE_NGINX_TEMPLATE: &str = r##"<source>
  @type tail
  path {{ nginx_access_log }}
  pos_file /var/log/td-agent/nginx.access.pos # keep me
  format nginx
  tag nginx.access
</source>
<filter nginx.*>
  @type record_transformer
  <record>
    host "#{Socket.gethostname}"
    env {{ env_name }}
  </record>
</filter>
<match nginx.*>
  @type forward
  buffer_type memory
  buffer_chunk_limit 16m
  buffer_queue_limit 128
  flush_interval 30s
  flush_at_shutdown false
  retry_limit 17
  retry_wait 1s
  max_retry_wait 1m
  disable_retry_limit true
  num_threads 4
  <server>
    host {{ aggregator }}
  </server>
</match>
"##;

pub(super) const SYSTEM_LOGS_TO_TWO_COLLECTORS: &str = r##"<source>
  @type tail
  path /var/log/messages,/var/log/secure
  pos_file /var/log/td-agent/system.pos
  tag system.*
  <parse>
    @type syslog
    keep_time_key true
  </parse>
</source>
<match system.**>
  @type forward
  send_timeout 60s
  recover_wait 10s
  hard_timeout 60s
  phi_threshold 16
  <server>
    name main
    host 10.1.0.10
    weight 60
  </server>
  <server>
    name spare
    host 10.1.0.11
    weight 60
    standby
  </server>
  <buffer>
    @type file
    path /var/log/td-agent/buffer/system
    flush_interval 10s
    chunk_limit_size 8m
    total_limit_size 2g
    overflow_action drop_oldest_chunk
    retry_forever true
    retry_max_interval 2m
  </buffer>
  <secondary>
    @type file
    path /var/log/td-agent/forward-failed
  </secondary>
</match>
"##;

pub(super) const THE_ENVIRONMENT_DRIVEN_BOOT_CONFIG: &str = r##"<system>
  log_level "#{ENV['FLUENT_LOG_LEVEL'] || 'info'}"
  workers "#{ENV['FLUENT_WORKERS'] || 1}"
</system>
<source>
  @type tail
  @id app_log
  path "#{ENV['APP_LOG_GLOB'] || '/srv/app/log/*.log'}"
  exclude_path ["/srv/app/log/*.gz", "/srv/app/log/*.zip"]
  pos_file "#{ENV['STATE_DIR'] || '/var/lib/agent'}/app.pos"
  path_key source_file
  read_from_head true
  refresh_interval 5
  tag "app.#{ENV['STAGE'] || 'dev'}"
  <parse>
    @type json
    time_key ts
    time_format %Y-%m-%dT%H:%M:%S.%L%z
    keep_time_key true
  </parse>
</source>
<filter app.**>
  @type record_transformer
  <record>
    instance "#{ENV['INSTANCE_ID'] || use_nil}"
    hostname ${hostname}
    tag ${tag}
  </record>
</filter>
<match app.**>
  @type forward
  @id to_aggregator
  expire_dns_cache 60
  <server>
    host "#{ENV['AGG_HOST']}"
    port "#{ENV['AGG_PORT'] || 24224}"
  </server>
  <buffer>
    flush_mode interval
    flush_interval 1s
  </buffer>
</match>
"##;

pub(super) const JAVA_MULTILINE_WITH_LABELS: &str = r##"@include conf.d/*.conf

<source>
  @type tail
  path /opt/app/logs/server.log
  pos_file /var/log/td-agent/server.pos
  tag java.server
  format multiline
  format_firstline /\d{4}-\d{1,2}-\d{1,2}/
  format1 /^(?<time>\d{4}-\d{1,2}-\d{1,2} \d{1,2}:\d{1,2}:\d{1,2},\d{3}) (?<level>[A-Z]+) +\[(?<thread>[^\]]*)\] /
  format2 /(?<message>.*)/
  time_format %Y-%m-%d %H:%M:%S,%L
  multiline_flush_interval 5s
  keep_time_key true
  @label @JAVA
</source>
<label @JAVA>
  <filter java.**>
    @type grep
    <exclude>
      key message
      pattern /healthcheck|GET \/ping/
    </exclude>
  </filter>
  <match **>
    @type copy
    <store>
      @type forward
      <server>
        host logs.internal
      </server>
    </store>
    <store>
      @type relabel
      @label @ARCHIVE
    </store>
  </match>
</label>
<label @ARCHIVE>
  <match java.**>
    @type file
    path /data/archive/java.*.log
    time_slice_format %Y%m%d
    time_slice_wait 10m
    time_format %Y%m%dT%H%M%S%z
    compress gzip
    symlink_path /data/archive/java-current
  </match>
</label>
"##;

pub(super) const LTSV_FANNED_OUT_TO_S3: &str = r##"<source>
  type tail
  format ltsv
  time_key time
  time_format %d/%b/%Y:%H:%M:%S %z
  types status:integer,reqtime:float,size:integer
  path /var/log/nginx/ltsv_access.log
  pos_file /var/log/td-agent/ltsv.pos
  tag s3.nginx.access
</source>
<match s3.*.*>
  type copy
  <store>
    type s3
    aws_key_id AKIDEXAMPLE
    aws_sec_key SECRETEXAMPLE
    s3_bucket example-logs
    s3_region ap-northeast-1
    path logs/nginx/
    buffer_path /var/log/td-agent/s3-nginx
    time_slice_format %Y%m%d/%H
    time_slice_wait 10m
    buffer_chunk_limit 256m
    utc
    format json
    include_time_key true
    store_as gzip
  </store>
  <store>
    type forward
    flush_interval 5s
    <server>
      host 10.1.2.3
    </server>
  </store>
</match>
"##;

pub(super) const METADATA_IN_THE_TAG: &str = r##"<source>
  @type tail
  path /var/log/app/*.log
  pos_file /var/log/td-agent/app.pos
  tag log.*
  format none
</source>
<match log.**>
  @type ec2_metadata
  output_tag ${tagset_name}.${instance_id}.${tag}
  imdsv2 true
  metadata_refresh_seconds 300
  <record>
    az ${availability_zone}
  </record>
</match>
<match *.i-**>
  @type forest
  subtype s3
  <template>
    s3_bucket example-archive
    s3_region us-east-1
    path ${tag}/%Y/%m/%d/
    s3_object_key_format %{path}%{time_slice}_%{index}.%{file_extension}
    time_slice_format %Y%m%d%H
    buffer_type file
    buffer_path /var/log/td-agent/buffer/s3.${tag}.*
    <instance_profile_credentials>
      retries 5
    </instance_profile_credentials>
  </template>
</match>
"##;

pub(super) const TAG_ROUTING_BY_CONTENT: &str = r##"<source>
  type syslog
  port 5140
  bind 127.0.0.1
  tag raw.syslog
  format /^(?<time>[^ ]*\s*[^ ]* [^ ]*) (?<ident>[\w\/.-]*)(?:\[(?<pid>\d+)\])?[^\:]*\: *(?<message>.*)$/
  time_format %b %d %H:%M:%S
</source>
<match raw.syslog.**>
  type rewrite_tag_filter
  rewriterule1 ident ^sshd$            sec.ssh
  rewriterule2 ident ^(cron|anacron)$  job.$1
  rewriterule3 message !^$             other.${tag}
  capitalize_regex_backreference no
</match>
<match {sec,job}.**>
  type forward
  <server>
    host 10.1.2.3
  </server>
</match>
<match other.** fluent.**>
  type null
</match>
<match **>
  type file
  path /var/log/td-agent/lost
</match>
"##;

pub(super) const RUBY_HEAVY_ENRICHMENT: &str = r##"<filter access.**>
  @type record_transformer
  enable_ruby
  auto_typecast
  renew_record true
  keep_keys host,code,time
  <record>
    host_name "#{Socket.gethostname}"
    when ${time.strftime('%Y-%m-%dT%H:%M:%S.%L%z')}
    epoch_ms ${(time.to_f * 1000).to_i}
    service ${tag_parts[1]}
    level ${tag_parts[2] == "err" ? "error" : tag_parts[2] == "warn" ? "warning" : tag_parts[2]}
    user ${record["user"] || "-"}
    trace ${record.dig("ctx", "trace_id") || "none"}
    source ${(record["request"].to_s.match(/[?&]utm_source=(?<s>[^&]*)/) || {})[:s]}
    unit ${record["CONTAINER_NAME"] != nil && record["CONTAINER_NAME"].split("_").length >= 2 ? record["CONTAINER_NAME"].split("_")[1] : ""}
    masked ${record["msg"].to_s.gsub(/(?i)api_?key=[^\s&]+/, 'api_key=***')}
    from ${if record["ip"]; record["ip"]; elsif tag_parts[3]; "net-#{tag_parts[3]}"; else "unknown"; end}
    line "${record['source']}: ${record['message']}"
  </record>
  remove_keys log,_*
</filter>
"##;

pub(super) const JOURNALD_AND_TLS: &str = r##"<source>
  @type systemd
  tag journal
  path /var/log/journal
  matches [{"_SYSTEMD_UNIT": "sshd.service"}, {"_SYSTEMD_UNIT": "app.service"}]
  read_from_head true
  <storage>
    @type local
    persistent true
    path /var/lib/agent/journal-cursor.json
  </storage>
  <entry>
    fields_strip_underscores true
    fields_lowercase true
  </entry>
</source>
<source>
  @type prometheus
</source>
<source>
  @type prometheus_output_monitor
  <labels>
    host ${hostname}
  </labels>
</source>
<label @FLUENT_LOG>
  <match fluent.*>
    @type null
  </match>
</label>
<filter **.*>
  @type record_transformer
  <record>
    hostname ${hostname}
    tag ${tag}
  </record>
</filter>
<match **.*>
  @type copy
  <store ignore_error>
    @type forward
    transport tls
    tls_cert_path /etc/agent/ca.pem
    tls_allow_self_signed_cert true
    tls_verify_hostname false
    flush_interval 1s
    <server>
      host logs.example.internal
      port 24230
    </server>
    <security>
      self_hostname "#{Socket.gethostname}"
      shared_key "#{ENV['FORWARD_KEY']}"
    </security>
    <buffer tag,time>
      @type file
      path /var/lib/agent/buffer/tls
      timekey 1h
      timekey_wait 0
      flush_mode interval
      flush_interval 10s
      flush_thread_count 4
      compress gzip
    </buffer>
  </store>
  <store>
    type relabel
    @label @alerts
  </store>
</match>
<label @alerts>
  <match **>
    @type null
  </match>
</label>
"##;

pub(super) const THE_GROWN_MONSTER: &str = r##"# CRLF line ends, tabs, a BOM-less UTF-8 comment in another language
<source>
	type forward
	port 24224
	retry_limit 5
	flush_interval 5s
	<server>
		host localhost
	</server>
</source>
<source>
  @type tail
  path /data/events/role_%Y-%m-*.log,/data/events/**/login_?.log
  pos_file /data/events/all.pos
  pos_file_compaction_interval 72h
  skip_refresh_on_startup true
  refresh_interval 180s
  read_from_head true
  enable_watch_timer false
  rotate_wait 300
  format json
  tag events
  flush_interval 1s
</source>
<source>
  @type tail
  path /var/log/haproxy.log
  pos_file /data/events/haproxy.pos
  tag haproxy
  types bytes:integer,tq:integer,at:time:%d/%b/%Y:%H:%M:%S.%L
  format /^(?<t>[^ ]* +[^ ]* +[^ ]*) (?<h>[\w.-]+) (?<ps>\w+)\[(?<pid>\d+)\]: ((?<ip>[\d.]+):(?<port>\d+) \[(?<at>.+)\] (?<fe>.+) (?<be>.+)/(?<srv>.+) (?<tq>-?\d+)/\d+ (?<status>\d{3}) (?<bytes>\d+) {(?<hdr>[^}]*)} "(?<req>.+)"|(?<message>.+))/
</source>
<match events>
  type record_reformer
  renew_record false
  enable_ruby false
  tag reformed.${tag}
  <record>
    message ${hostname} ${message}
  </record>
</match>
<match events>
  type forward            # never reached: the match above takes everything
  <server>
    host 10.1.2.3
  </server>
</match>
<match reformed.**>
  type forward
  flush_interval 1s
  buffer_type file
  buffer_path /data/buf/fwd
  buffer_queue_limit 2048
  buffer_chunk_limit 8m
  flush_interval 60s
  heartbeat_type tcp
  <server>
    host 10.1.2.3   # change me
  </server>
  <secondary>
    <server>
      host 10.1.2.4
    </server>
  </secondary>
</match>
<match ***>
  type stdout
</match>
"##;
